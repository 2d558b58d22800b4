import { describe, expect, it } from 'vitest';
import { type AgentLine, agentLine } from './agent-lines.ts';

const AT = Date.UTC(2026, 10, 28, 12);
const STARTED: AgentLine = {
  ...{ news: 'started', id: 'web-1', server: 'mqtts://b', signed: false, intervalSeconds: 5, folder: '/f', queued: 2 },
};

describe('a line of the agent', () => {
  it.each<[AgentLine, string]>([
    [STARTED, 'web-1 reports to mqtts://b every 5 s, not signed, by way of /f; 2 frames of earlier runs'],
    [{ news: 'delivering', queued: 0 }, 'the server takes frames'],
    [{ news: 'delivering', queued: 1 }, 'the server takes frames; 1 frame to go'],
    [
      { news: 'waiting', reason: 'name-unknown', queued: 3 },
      'waiting: the name of the server is not known; frames are kept (3)',
    ],
    [{ news: 'waiting', reason: 'busy', queued: 3 }, 'waiting: busy; frames are kept (3)'],
    [
      { news: 'refused', reason: 'broker-refused', queued: 1 },
      'refused: the broker refuses this user, password or client id; frames are kept (1), and it is tried again',
    ],
    [{ news: 'not-measured', detail: '/x does not answer' }, 'no frame: /x does not answer'],
    [{ news: 'not-kept', detail: 'no room for /f' }, 'a frame is lost: no room for /f'],
    [{ news: 'working' }, 'frames are made and kept again'],
    [{ news: 'dropped', frames: 7 }, 'too many frames wait: the oldest had to go, 7 so far'],
    [{ news: 'damaged', frames: 1 }, 'the disk has lost kept frames, 1 so far'],
    [
      { news: 'dead-letter', reason: 'schema', detail: 'no such member' },
      'set aside, the server will never take it: schema no such member',
    ],
    [
      { news: 'stopped', delivered: 9, queued: 1, dropped: 0 },
      'stopped: 9 delivered, 1 kept for the next run, 0 dropped',
    ],
  ])('for people: %j', (line, text) => {
    expect(agentLine(line, false, AT)).toBe(`2026-11-28T12:00:00.000Z ${text}\n`);
  });

  it('as JSON is one object with the time in Unix ms', () => {
    expect(JSON.parse(agentLine(STARTED, true, AT))).toEqual({ at: AT, ...STARTED });
  });
});
