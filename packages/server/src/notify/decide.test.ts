import { SEVERITIES, severityRank } from '@tocsin/protocol/alert';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decide, readAlert } from './decide.ts';
import { alertOf, busyHost } from './notices.suite.ts';

const wants = { least: severityRank('moderate'), firstOnly: ['host.cpu'] };

describe('what a destination is told', () => {
  it.each([
    ['the first message of an alert that is severe enough', alertOf(), undefined, 'first'],
    ['nothing of an alert that is not', alertOf({ severity: 'minor' }), undefined, 'below-severity'],
    [
      'a later revision as the first, when the first was not severe enough',
      alertOf({ revision: 3 }),
      undefined,
      'first',
    ],
    ['that an alert became worse', alertOf({ severity: 'extreme', revision: 2 }), 3, 'worse'],
    ['nothing of a revision that changed nothing about its severity', alertOf({ revision: 2 }), 3, 'not-worse'],
    ['nothing of a revision that is less severe', alertOf({ severity: 'moderate', revision: 2 }), 3, 'not-worse'],
    ['nothing of an acknowledgement', alertOf({ state: 'acknowledged', revision: 2 }), 3, 'not-worse'],
    ['the end of what was told', alertOf({ state: 'resolved', severity: 'minor', revision: 2 }), 3, 'resolved'],
    ['no end of what was not', alertOf({ state: 'resolved', revision: 2 }), undefined, 'never-told'],
    [
      'no end of what the next alert of its host says again',
      alertOf({ kind: 'host.disk', state: 'resolved', revision: 2, evidence: { ended: { at: 1, reason: 'again' } } }),
      3,
      'told-again',
    ],
    ['a busy host', busyHost('web-1'), undefined, 'first'],
    ['nothing more of a busy host', busyHost('web-1', { state: 'resolved', revision: 2 }), 2, 'first-only'],
    ['not that a busy host became worse', busyHost('web-1', { severity: 'extreme', revision: 2 }), 2, 'first-only'],
  ])('is %s', (_rule, alert, told, reason) => {
    expect(decide(alert, told, wants).reason).toBe(reason);
  });

  it('never is the same severity of an alert twice', () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...SEVERITIES), { maxLength: 20 }), (severities) => {
        let told: number | undefined;
        const ranks: number[] = [];
        severities.forEach((severity, index) => {
          const decision = decide(alertOf({ severity, revision: index + 1 }), told, wants);
          if (!decision.tell) return;
          told = Math.max(told ?? 0, severityRank(severity));
          ranks.push(severityRank(severity));
        });
        expect(ranks).toEqual([...new Set(ranks)].sort((a, b) => a - b));
        expect(ranks.every((rank) => rank >= wants.least)).toBe(true);
      }),
    );
  });
});

describe('the alert of a message', () => {
  it('is read from its body', () => {
    expect(readAlert(JSON.stringify(alertOf()))).toEqual(alertOf());
  });

  it.each(['', 'null', '[]', '{}', '{"id":1}', JSON.stringify({ ...alertOf(), kind: 'of.tomorrow' })])(
    'is none for %j',
    (body) => {
      expect(readAlert(body)).toBeNull();
    },
  );
});
