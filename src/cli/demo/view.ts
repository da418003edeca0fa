/** Shows the demo: a table in place on a terminal, plain lines elsewhere, JSON when asked for. */

import { printable } from "../printable.ts";
import { jsonLine, type TextStream } from "../reporter.ts";
import { countText, percentText } from "../units.ts";
import type { PeerProcess } from "./peer-process.ts";
import { shareFromPeers, tableLines } from "./table.ts";

const LIVE_MS = 250;
const PLAIN_MS = 3_000;

export interface Head {
  /** One line above the table. */
  readonly sentence: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

export class DemoView {
  readonly #out: TextStream;
  readonly #json: boolean;
  readonly #quiet: boolean;
  readonly #live: boolean;
  #drawnLines = 0;
  #timer: ReturnType<typeof setInterval> | undefined;

  constructor(options: { readonly json: boolean; readonly quiet: boolean }, out: TextStream) {
    this.#out = out;
    this.#json = options.json;
    this.#quiet = options.quiet;
    this.#live = out.isTTY === true && !options.json && !options.quiet;
  }

  /** Something happened. */
  say(event: string, fields: Readonly<Record<string, unknown>>, sentence: string): void {
    this.#erase();
    this.#out.write(this.#json ? jsonLine(event, fields) : `${printable(sentence)}\n`);
  }

  /** Shows head and peers again and again, until `stop`. */
  follow(head: () => Head, peers: () => readonly PeerProcess[]): void {
    if (this.#quiet) return;
    const show = (): void => {
      if (this.#live) this.#draw([head().sentence, ...tableLines(peers())]);
      else if (this.#json) this.#showJson(head(), peers());
      else this.#showPlain(head(), peers());
    };
    this.#timer = setInterval(show, this.#live ? LIVE_MS : PLAIN_MS);
  }

  /** Shows no more. */
  pause(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  /** Shows no more, and leaves the last state standing. */
  stop(head: Head, peers: readonly PeerProcess[]): void {
    this.pause();
    if (this.#quiet || this.#json) return;
    this.#erase();
    this.#out.write(`${[head.sentence, ...tableLines(peers)].join("\n")}\n`);
  }

  #showJson(head: Head, peers: readonly PeerProcess[]): void {
    const rows = peers.map(({ name, state, status }) => {
      const { kind: _kind, ...numbers } = status ?? { kind: "status" };
      return { name, state, ...numbers };
    });
    this.#out.write(jsonLine("progress", { ...head.fields, peers: rows }));
  }

  #showPlain(head: Head, peers: readonly PeerProcess[]): void {
    const words = peers.map(({ name, state, status }) => {
      if (state !== "running" || status === undefined) return `${name} ${state}`;
      const share = percentText(shareFromPeers(status));
      return `${name} ${countText(status.data)} (${share} from peers, ${status.missing} missing)`;
    });
    this.#out.write(`${head.sentence}: ${words.join(", ")}\n`);
  }

  #draw(lines: readonly string[]): void {
    const up = this.#drawnLines > 0 ? `\x1b[${this.#drawnLines}A` : "";
    const width = (this.#out.columns ?? 120) - 1;
    const text = lines.map((line) => `\r\x1b[K${line.slice(0, width)}\n`).join("");
    this.#out.write(`${up}${text}`);
    this.#drawnLines = lines.length;
  }

  /** Takes the table away, so that a line can stand in its place. */
  #erase(): void {
    if (this.#drawnLines === 0) return;
    this.#out.write(`\x1b[${this.#drawnLines}A\x1b[J`);
    this.#drawnLines = 0;
  }
}
