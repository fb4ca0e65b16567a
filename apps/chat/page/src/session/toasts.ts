/** Short messages that show up for a while and go by themselves. */
import { Store } from "./store.ts";

const SHOWN_MS = 6_000;
/** Toasts at once; the oldest give way. */
const MOST = 3;

export interface Toast {
  id: number;
  kind: "notice" | "error";
  text: string;
}

export class Toasts {
  readonly shown = new Store<Toast[]>([]);
  readonly #schedule: (delayMs: number, action: () => void) => () => void;
  #lastId = 0;

  constructor(schedule: (delayMs: number, action: () => void) => () => void) {
    this.#schedule = schedule;
  }

  show(toast: Omit<Toast, "id">): void {
    const id = (this.#lastId += 1);
    this.shown.set([...this.shown.get(), { ...toast, id }].slice(-MOST));
    this.#schedule(SHOWN_MS, () => {
      this.dismiss(id);
    });
  }

  dismiss(id: number): void {
    this.shown.set(this.shown.get().filter((toast) => toast.id !== id));
  }
}
