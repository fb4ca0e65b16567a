/**
 * Puts a user's inbox into order: gives each entry once, in ascending order and without holes.
 * An entry that came before is dropped; one that came early is held back until the hole before it is filled.
 */
import type { InboxEntry } from "../model/types.ts";

/** Entries held back behind a hole; past this the connection is started anew instead. */
const MOST_HELD = 512;

export class Sequencer {
  #last: number;
  readonly #held = new Map<number, InboxEntry>();

  constructor(last: number) {
    this.#last = last;
  }

  /** The number of the last entry given out: what to resume after. */
  get last(): number {
    return this.#last;
  }

  /** Whether an entry is known to be missing. */
  get hasGap(): boolean {
    return this.#held.size > 0;
  }

  get overflowed(): boolean {
    return this.#held.size >= MOST_HELD;
  }

  /** Takes one entry, in any order, and returns those whose turn has come. */
  offer(entry: InboxEntry): InboxEntry[] {
    if (entry.inboxSeq <= this.#last || this.overflowed) return [];
    this.#held.set(entry.inboxSeq, entry);
    return this.#release();
  }

  /** Forgets what was held back: a resumed connection sends it again. */
  forgetHeld(): void {
    this.#held.clear();
  }

  #release(): InboxEntry[] {
    const ready: InboxEntry[] = [];
    for (let next = this.#held.get(this.#last + 1); next; next = this.#held.get(this.#last + 1)) {
      this.#held.delete(next.inboxSeq);
      this.#last = next.inboxSeq;
      ready.push(next);
    }
    return ready;
  }
}
