/** A log of one viewer with times since its first line; alerts of one connection in a row share a line. */

/** The log. */
export interface Story {
  readonly lines: readonly string[];
  tell(event: string): void;
  /** An alert on a connection; `again`: it was seen before. */
  alert(connection: number, offset: number, again: boolean): void;
  /** Writes what is still gathered. */
  end(): void;
}

interface Run {
  readonly at: string;
  readonly connection: number;
  readonly again: boolean;
  readonly first: number;
  last: number;
}

/** Begins a log; `write` gets each line once it is whole. */
export function createStory(write: (line: string) => void): Story {
  const lines: string[] = [];
  let begun: number | null = null;
  let run: Run | null = null;

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
    const { at, connection, first, last, again } = run;
    const range = first === last ? `alert ${first}` : `alerts ${first} to ${last}`;
    put(`${at}  #${connection} ${range}${again ? ', had it: dropped' : ''}`);
    run = null;
  }

  return {
    lines,
    tell(event) {
      end();
      put(`${stamp()}  ${event}`);
    },
    alert(connection, offset, again) {
      if (run !== null && (run.connection !== connection || run.again !== again || offset !== run.last + 1)) end();
      if (run === null) run = { at: stamp(), connection, again, first: offset, last: offset };
      else run.last = offset;
    },
    end,
  };
}
