/** Typed listeners: on() gives back how to stop listening. */

export class Listeners<Events> {
  readonly #byEvent = new Map<keyof Events, Set<(value: never) => void>>();

  on<K extends keyof Events>(event: K, listener: (value: Events[K]) => void): () => void {
    let listeners = this.#byEvent.get(event);
    if (listeners === undefined) {
      listeners = new Set();
      this.#byEvent.set(event, listeners);
    }
    listeners.add(listener as (value: never) => void);
    return () => listeners.delete(listener as (value: never) => void);
  }

  emit<K extends keyof Events>(event: K, value: Events[K]): void {
    for (const listener of this.#byEvent.get(event) ?? []) {
      (listener as (value: Events[K]) => void)(value);
    }
  }
}
