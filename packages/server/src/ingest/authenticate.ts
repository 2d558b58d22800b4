/** Stage: the API key, with the scope `ingest`. */
import type { Stage } from './stage.ts';

/** What a key may do; null when it is not known. */
export type KeyAnswer = { readonly id: string; readonly scopes: readonly string[] } | null;

/** Looks a key up; synchronous when it is in memory. */
export type CheckKey = (text: string) => KeyAnswer | Promise<KeyAnswer>;

/** 401 without a known key, 403 without the scope. */
export function authenticate(check: CheckKey): Stage {
  return (draft) => {
    if (draft.apiKey === undefined || draft.apiKey === '') {
      return { code: 'api-key-missing', detail: 'The header X-API-Key is missing' };
    }
    const decide = (answer: KeyAnswer): ReturnType<Stage> => {
      if (answer === null) return { code: 'api-key-unknown', detail: 'The API key is not known or was revoked' };
      if (!answer.scopes.includes('ingest'))
        return { code: 'scope-insufficient', detail: 'The API key lacks the scope ingest' };
      draft.keyId = answer.id;
      return null;
    };
    const answer = check(draft.apiKey);
    return answer instanceof Promise ? answer.then(decide) : decide(answer);
  };
}
