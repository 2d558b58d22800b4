import { engines } from '@tocsin/testkit/engines';
import { describe } from 'vitest';
import { statisticsSuite } from './statistics.suite.ts';

describe.each(engines)('statistics in PostgreSQL (%s)', (engine) => statisticsSuite(engine));
