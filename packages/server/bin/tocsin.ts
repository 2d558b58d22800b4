#!/usr/bin/env node
/** The command `tocsin`: arguments, environment, terminal and signals of this process into the app. */
import process from 'node:process';
import { runCommandLine } from '../src/app/commands/command-line.ts';
import { processTerminal } from '../src/app/commands/terminal.ts';

const code = await runCommandLine(process.argv.slice(2), {
  env: process.env,
  cwd: process.cwd(),
  terminal: processTerminal(),
  events: process,
});
process.exit(code);
