/**
 * Signals of a command: the first SIGINT or SIGTERM asks it to stop in order, the second ends the
 * process at once.
 */

import { EXIT, type ExitCode } from "./exit.ts";

export type StopSignal = "SIGINT" | "SIGTERM";

export class Signals {
  readonly #controller = new AbortController();
  readonly #interrupt = new AbortController();
  #received: StopSignal | undefined;

  constructor(source: Pick<NodeJS.Process, "on" | "exit"> = process) {
    const stop = (name: StopSignal) => (): void => {
      if (this.#received !== undefined) source.exit(EXIT.interrupted);
      this.#received = name;
      if (name === "SIGINT") this.#interrupt.abort(name);
      this.#controller.abort(name);
    };
    source.on("SIGINT", stop("SIGINT"));
    source.on("SIGTERM", stop("SIGTERM"));
  }

  /** Aborted by the first signal. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }
  /** Aborted by the first signal if that asks for no order: SIGINT. */
  get interrupt(): AbortSignal {
    return this.#interrupt.signal;
  }
  get received(): StopSignal | undefined {
    return this.#received;
  }

  /** Calls `listener` with the first signal, also when it came before. */
  onFirst(listener: (name: StopSignal) => void): void {
    const tell = (): void => {
      if (this.#received !== undefined) listener(this.#received);
    };
    if (this.#received !== undefined) tell();
    else this.signal.addEventListener("abort", tell, { once: true });
  }

  /** What a stopped command ends with: SIGTERM drained it, SIGINT interrupted it. */
  exitCode(otherwise: ExitCode): ExitCode {
    if (this.#received === "SIGINT") return EXIT.interrupted;
    return this.#received === "SIGTERM" ? EXIT.ok : otherwise;
  }
}
