/**
 * The one socket to the server and its life: open, resume after the last number, fill holes, lose, wait, open again.
 *
 * Knows nothing of React or the DOM: everything outside comes in through `Ports`. It promises its listener each inbox
 * entry once and in order, whatever the server or the network repeats, leaves out or swaps.
 */
import type { ClientFrame, InboxEntry, ServerFrame } from "../model/types.ts";
import { backoff } from "./backoff.ts";
import { readFrame } from "./frames.ts";
import { Sequencer } from "./sequencer.ts";

/** A socket that gets no Welcome in this time is taken for dead. */
const WELCOME_WITHIN_MS = 10_000;
/** Only a connection that lasted this long starts the waiting times anew. */
const STEADY_AFTER_MS = 5_000;

export const CLOSE = {
  normal: 1000,
  unanswered: 4000,
  expired: 4401,
  /** Closes that say: this frame of yours is to blame. */
  blamed: [1003, 1007, 1009, 4403] as readonly number[],
} as const;

export type ConnectionState = "connecting" | "online" | "waiting" | "expired" | "stopped";

type Timer = "retry" | "welcome" | "steady";

export interface Socket {
  send(text: string): void;
  close(code: number): void;
}

export interface SocketEvents {
  message(data: unknown): void;
  closed(code: number): void;
}

export interface Ports {
  open: (token: string, lastSeq: number, events: SocketEvents) => Socket;
  /** Entries after a number, in order. Throws an error with `status` 401 if the token is no good. */
  inbox: (after: number) => Promise<InboxEntry[]>;
  /** Runs `action` after a while unless the returned function is called first. */
  schedule: (delayMs: number, action: () => void) => () => void;
  random: () => number;
}

/** What the connection doesn't deal with itself. */
export type PassedFrame = Exclude<ServerFrame, { type: "Ping" | "ReceiveMessage" }>;

export interface Listener {
  state: (state: ConnectionState) => void;
  entries: (entries: InboxEntry[]) => void;
  frame: (frame: PassedFrame) => void;
  closed: (code: number) => void;
}

export class Connection {
  readonly #ports: Ports;
  readonly #listener: Listener;
  readonly #sequencer: Sequencer;
  #token: string;
  #state: ConnectionState = "stopped";
  #socket: Socket | null = null;
  #attempt = 0;
  #filling = false;
  readonly #timers = new Map<Timer, () => void>();

  constructor(ports: Ports, listener: Listener, token: string, lastSeq: number) {
    this.#ports = ports;
    this.#listener = listener;
    this.#token = token;
    this.#sequencer = new Sequencer(lastSeq);
  }

  get state(): ConnectionState {
    return this.#state;
  }

  get lastSeq(): number {
    return this.#sequencer.last;
  }

  /** Opens the socket now, whatever waiting time is left. */
  open(): void {
    this.#drop(CLOSE.normal);
    this.#sequencer.forgetHeld();
    // A socket that was let go of may still speak: only the present one is heard.
    const socket: Socket = this.#ports.open(this.#token, this.#sequencer.last, {
      message: (data) => {
        if (this.#socket === socket) this.#received(data);
      },
      closed: (code) => {
        if (this.#socket === socket) this.#lost(code);
      },
    });
    this.#socket = socket;
    this.#setState("connecting");
    this.#after("welcome", WELCOME_WITHIN_MS, () => {
      this.retryLater();
    });
  }

  stop(): void {
    this.#drop(CLOSE.normal);
    this.#setState("stopped");
  }

  /** Sends a frame, if the connection stands. The answer is the caller's to wait for: after a loss it must send again. */
  send(frame: ClientFrame): boolean {
    if (this.#state !== "online" || !this.#socket) return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  /** Takes a fresh token: over the standing connection, or for the next one. */
  renew(token: string): void {
    this.#token = token;
    if (!this.send({ type: "Renew", token })) this.open();
  }

  /** Gives the connection up for dead; the next attempt follows after a while. */
  retryLater(): void {
    this.#drop(CLOSE.unanswered);
    this.#setState("waiting");
    this.#after("retry", backoff(this.#attempt, this.#ports.random), () => {
      this.open();
    });
    this.#attempt += 1;
  }

  /** Fetches what the socket may have missed, e.g. while the machine slept. */
  async catchUp(): Promise<void> {
    if (this.#filling) return;
    this.#filling = true;
    try {
      await this.#fill();
    } catch (error) {
      this.#fillFailed(error);
    } finally {
      this.#filling = false;
    }
  }

  async #fill(): Promise<void> {
    for (;;) {
      const before = this.#sequencer.last;
      const entries = await this.#ports.inbox(before);
      for (const entry of entries) this.#offer(entry);
      if (entries.length === 0 && !this.#sequencer.hasGap) return;
      if (this.#sequencer.last === before) throw new Error("the inbox has a hole");
    }
  }

  #fillFailed(error: unknown): void {
    if (this.#state === "stopped") return;
    if (isUnauthorized(error)) this.#expire();
    else if (this.#state === "online") this.retryLater();
  }

  #received(data: unknown): void {
    let frame: ServerFrame | null;
    try {
      frame = readFrame(String(data));
    } catch (error) {
      console.error("The server sent something unreadable:", error);
      this.retryLater();
      return;
    }
    if (frame) this.#handle(frame);
  }

  #handle(frame: ServerFrame): void {
    switch (frame.type) {
      case "Ping":
        this.send({ type: "Pong" });
        return;
      case "ReceiveMessage":
        this.#offer({ inboxSeq: frame.seq, message: frame.message });
        if (this.#sequencer.overflowed) this.retryLater();
        else if (this.#sequencer.hasGap) void this.catchUp();
        return;
      case "Welcome":
        this.#cancel("welcome");
        this.#setState("online");
        this.#after("steady", STEADY_AFTER_MS, () => {
          this.#attempt = 0;
        });
        break;
      default:
    }
    this.#listener.frame(frame);
  }

  #offer(entry: InboxEntry): void {
    const ready = this.#sequencer.offer(entry);
    if (ready.length > 0) this.#listener.entries(ready);
  }

  #lost(code: number): void {
    const wasOnline = this.#state === "online";
    this.#listener.closed(code);
    if (code === CLOSE.expired) {
      this.#expire();
      return;
    }
    this.retryLater();
    // A refused upgrade shows the page no reason; the inbox does, and it brings the messages even where sockets are blocked.
    if (!wasOnline) void this.catchUp();
  }

  #expire(): void {
    this.#drop(CLOSE.normal);
    this.#setState("expired");
  }

  /** Lets go of the socket and of every timer. */
  #drop(code: number): void {
    for (const name of [...this.#timers.keys()]) this.#cancel(name);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close(code);
  }

  #after(name: Timer, delayMs: number, action: () => void): void {
    this.#cancel(name);
    const cancel = this.#ports.schedule(delayMs, () => {
      this.#timers.delete(name);
      action();
    });
    this.#timers.set(name, cancel);
  }

  #cancel(name: Timer): void {
    this.#timers.get(name)?.();
    this.#timers.delete(name);
  }

  #setState(state: ConnectionState): void {
    if (state === this.#state) return;
    this.#state = state;
    this.#listener.state(state);
  }
}

function isUnauthorized(error: unknown): boolean {
  return typeof error === "object" && error !== null && "status" in error && error.status === 401;
}
