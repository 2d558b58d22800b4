/** What a new password must be (NIST SP 800-63B section 5.1.1.2). Pure, and light enough for the settings to ask. */
import { LIMITS } from '@tocsin/protocol/limits';

/** One form for passwords that look alike. */
export function normalisePassword(password: string): string {
  return password.normalize('NFKC');
}

/** What is wrong with a new password, null when nothing is. `email` in lower case. */
export function passwordProblem(password: string, email: string): string | null {
  const least = LIMITS.passwordLeastCharacters.value;
  const most = LIMITS.passwordCharacters.value;
  if (Array.from(password).length < least) return `needs at least ${least} characters`;
  if (password.length > most) return `has more than ${most} characters`;
  if (new Set(normalisePassword(password)).size < 4) return 'needs at least 4 different characters';
  return normalisePassword(password).toLowerCase() === email ? 'must not be the e-mail address' : null;
}
