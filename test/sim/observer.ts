/**
 * What the harness tells its checkers. An observer sees everything that crosses the border of a
 * machine and changes nothing. Bytes and ranges are valid during the call only.
 */

import type { Input } from "../../src/base/machine.ts";
import type { LinkEnd } from "./link-end.ts";
import type { SimNode } from "./node.ts";

export interface Observer {
  /** A node handed bytes (whole frames) to one link. */
  onTransmit?(node: SimNode, end: LinkEnd, bytes: Uint8Array): void;
  /** Frames are about to be handed to a node: `count` pairs (offset, bytes) into `memory`. */
  onFrames?(
    node: SimNode,
    end: LinkEnd,
    memory: Uint8Array,
    ranges: Uint32Array,
    count: number,
  ): void;
  /** An input other than frames is about to be handed to a node. */
  onInput?(node: SimNode, input: Input<unknown>): void;
  /** A node's machine emitted an event. */
  onEvent?(node: SimNode, event: unknown): void;
  /** A node handled one input and its outputs are drained. */
  onStep?(node: SimNode): void;
  onLinkUp?(node: SimNode, end: LinkEnd): void;
  onLinkDown?(node: SimNode, end: LinkEnd): void;
  onBoot?(node: SimNode): void;
  onCrash?(node: SimNode): void;
  /** The run is over. */
  onEnd?(): void;
}

/** Calls each observer that listens; a list per call keeps the hot calls short. */
export class Observers {
  readonly #all: Observer[] = [];
  readonly #transmit: Observer[] = [];
  readonly #frames: Observer[] = [];
  readonly #input: Observer[] = [];
  readonly #event: Observer[] = [];
  readonly #step: Observer[] = [];

  add(observer: Observer): void {
    this.#all.push(observer);
    if (observer.onTransmit !== undefined) this.#transmit.push(observer);
    if (observer.onFrames !== undefined) this.#frames.push(observer);
    if (observer.onInput !== undefined) this.#input.push(observer);
    if (observer.onEvent !== undefined) this.#event.push(observer);
    if (observer.onStep !== undefined) this.#step.push(observer);
  }

  transmit(node: SimNode, end: LinkEnd, bytes: Uint8Array): void {
    for (const observer of this.#transmit) observer.onTransmit?.(node, end, bytes);
  }
  frames(
    node: SimNode,
    end: LinkEnd,
    memory: Uint8Array,
    ranges: Uint32Array,
    count: number,
  ): void {
    for (const observer of this.#frames) observer.onFrames?.(node, end, memory, ranges, count);
  }
  input(node: SimNode, input: Input<unknown>): void {
    for (const observer of this.#input) observer.onInput?.(node, input);
  }
  event(node: SimNode, event: unknown): void {
    for (const observer of this.#event) observer.onEvent?.(node, event);
  }
  step(node: SimNode): void {
    for (const observer of this.#step) observer.onStep?.(node);
  }
  linkUp(node: SimNode, end: LinkEnd): void {
    for (const observer of this.#all) observer.onLinkUp?.(node, end);
  }
  linkDown(node: SimNode, end: LinkEnd): void {
    for (const observer of this.#all) observer.onLinkDown?.(node, end);
  }
  boot(node: SimNode): void {
    for (const observer of this.#all) observer.onBoot?.(node);
  }
  crash(node: SimNode): void {
    for (const observer of this.#all) observer.onCrash?.(node);
  }
  end(): void {
    for (const observer of this.#all) observer.onEnd?.();
  }
}
