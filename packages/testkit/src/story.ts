/** A log of one viewer with times since its first line; alerts in a row share a line. */

/** The log. */
export interface Story {
  readonly lines: readonly string[];
  tell(event: string): void;
  /** An alert that the application was told. */
  alert(offset: number): void;
  /** Writes what is still gathered. */
  end(): void;
}

/** Begins a log; `write` gets each line once it is whole. */
export function createStory(write: (line: string) => void): Story {
  const lines: string[] = [];
  let begun: number | null = null;
  let run: { readonly at: string; readonly first: number; last: number } | null = null;

  function stamp(): string {
    const now = performance.now();
    begun ??= now;
    return ((now - begun) / 1000).toFixed(3).padStart(7);
  }
  function put(line: string): void {
    lines.push(line);
    write(line);
  }
  function end(): void {
    if (run === null) return;
    const { at, first, last } = run;
    put(`${at}  ${first === last ? `alert ${first}` : `alerts ${first} to ${last}`}`);
    run = null;
  }

  return {
    lines,
    tell(event) {
      end();
      put(`${stamp()}  ${event}`);
    },
    alert(offset) {
      if (run !== null && offset !== run.last + 1) end();
      if (run === null) run = { at: stamp(), first: offset, last: offset };
      else run.last = offset;
    },
    end,
  };
}
