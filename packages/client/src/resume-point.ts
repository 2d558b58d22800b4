/** The place to go on from after a reload, and what keeps it. */
import { isObject } from './alert-shape.ts';

/** Everything up to `offset` was handled by the application. */
export interface ResumePoint {
  readonly epoch: string;
  readonly offset: number;
  /** The newest time of the server that is known, Unix ms (0: none): what a gap is fetched from. */
  readonly at: number;
}

/** Keeps the point, for example in `localStorage`. It is saved after the application's handlers have returned. */
export interface ResumeStore {
  load(): unknown;
  save(point: ResumePoint): unknown;
}

/** What was loaded, when it is a point. */
export function readResumePoint(value: unknown): ResumePoint | null {
  if (!isObject(value)) return null;
  const { epoch, offset, at } = value;
  const fits =
    typeof epoch === 'string' &&
    epoch.length <= 64 &&
    Number.isSafeInteger(offset) &&
    (offset as number) >= 0 &&
    Number.isFinite(at);
  return fits ? { epoch, offset: offset as number, at: at as number } : null;
}
