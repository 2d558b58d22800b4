/**
 * Text that came from outside, made fit for viewers: no control characters, bounded. Pure.
 *
 * Guarantees: one line, well-formed Unicode, none of C0, DEL, C1, the line and paragraph separators, the overrides and
 * isolates that turn the direction of text around (U+202A to U+202E, U+2066 to U+2069), or noncharacters. Markup stays
 * as it is: whoever shows it, shows it as text.
 */
import { LIMITS } from '@tocsin/protocol/limits';

/** What ends a line or parts words becomes one space; the rest vanishes. */
const BREAKS = /[\t\n\v\f\r\u0085\u2028\u2029]+/g;
const CONTROLS = /[\u0000-\u001F\u007F-\u009F\u202A-\u202E\u2066-\u2069]|\p{Noncharacter_Code_Point}/gu;
const LONE_SURROGATES = /\p{Surrogate}/gu;

/** Deepest nesting of evidence. */
const EVIDENCE_DEPTH = 6;
/** Most members of an object in evidence. */
const EVIDENCE_MEMBERS = 64;
/** Most characters of a text or a name in evidence. */
const EVIDENCE_CHARACTERS = 512;
/** Most values in evidence, containers included: 200 envelopes of two names each are 601. */
const EVIDENCE_VALUES = 4096;
/** Most characters of all texts and names in evidence together: those envelopes have 30,000 at most. */
const EVIDENCE_ALL_CHARACTERS = 65_536;

/** One line of at most `most` UTF-16 units; a longer text ends in an ellipsis. */
export function cleanText(text: string, most: number): string {
  // Nothing beyond this can stay, so nothing beyond it is looked at.
  const looked = text.length > 4 * most ? text.slice(0, 4 * most) : text;
  const clean = looked.replace(BREAKS, ' ').replace(CONTROLS, '').replace(LONE_SURROGATES, '\uFFFD').trim();
  if (clean.length <= most) return clean;
  const cut = clean.slice(0, most - 1);
  const whole = /[\uD800-\uDBFF]$/.test(cut) ? cut.slice(0, -1) : cut;
  return `${whole.trimEnd()}…`;
}

/** The headline of an alert. */
export function cleanHeadline(text: string): string {
  return cleanText(text, LIMITS.headlineCharacters.value);
}

/** The description of an alert. */
export function cleanDescription(text: string): string {
  return cleanText(text, LIMITS.descriptionCharacters.value);
}

/**
 * Evidence as plain, bounded JSON with clean texts: lists keep their first LIMITS.evidenceEnvelopes entries, numbers
 * that are not finite become null, what is not JSON or too deep is left out.
 */
export function cleanEvidence(evidence: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return cleanMembers(evidence, 0, { values: EVIDENCE_VALUES, characters: EVIDENCE_ALL_CHARACTERS });
}

/** What evidence may still hold; whatever comes when it is used up is left out. */
interface Budget {
  values: number;
  characters: number;
}

function budgeted(text: string, budget: Budget): string | undefined {
  const clean = cleanText(text, EVIDENCE_CHARACTERS);
  if (clean.length > budget.characters) return undefined;
  budget.characters -= clean.length;
  return clean;
}

function cleanValue(value: unknown, depth: number, budget: Budget): unknown {
  budget.values -= 1;
  if (budget.values < 0) return undefined;
  if (value === null || typeof value === 'boolean') return value;
  if (typeof value === 'number') return Number.isFinite(value) ? value : null;
  if (typeof value === 'string') return budgeted(value, budget);
  if (typeof value !== 'object' || depth >= EVIDENCE_DEPTH) return undefined;
  if (!Array.isArray(value)) return cleanMembers(value as Record<string, unknown>, depth, budget);
  const kept = value.slice(0, LIMITS.evidenceEnvelopes.value).map((item) => cleanValue(item, depth + 1, budget));
  return kept.filter((item) => item !== undefined);
}

function cleanMembers(
  value: Readonly<Record<string, unknown>>,
  depth: number,
  budget: Budget,
): Record<string, unknown> {
  const entries: [string, unknown][] = [];
  for (const [name, inner] of Object.entries(value).slice(0, EVIDENCE_MEMBERS)) {
    const clean = budgeted(name, budget);
    if (clean === undefined) break;
    const kept = cleanValue(inner, depth + 1, budget);
    if (kept !== undefined) entries.push([clean, kept]);
  }
  // fromEntries defines members, so a name like __proto__ stays a name.
  return Object.fromEntries(entries);
}
