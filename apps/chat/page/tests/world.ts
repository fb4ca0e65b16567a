/** The outside world in a test's hands: sockets that it opens, closes and speaks through, and a clock that it turns. */
import type { Conversation, InboxEntry, Message } from "../src/model/types.ts";
import type { Socket, SocketEvents } from "../src/net/connection.ts";

export class FakeClock {
  now = 1_000_000;
  #timers: { at: number; action: () => void }[] = [];

  readonly schedule = (delayMs: number, action: () => void): (() => void) => {
    const timer = { at: this.now + delayMs, action };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((each) => each !== timer);
    };
  };

  /** Runs what is due within the next `ms`, in order. */
  turn(ms: number): void {
    const end = this.now + ms;
    for (let next = this.#next(end); next; next = this.#next(end)) {
      this.#timers = this.#timers.filter((each) => each !== next);
      this.now = next.at;
      next.action();
    }
    this.now = end;
  }

  /** How long until the earliest timer. */
  get wait(): number {
    return Math.min(...this.#timers.map(({ at }) => at)) - this.now;
  }

  #next(end: number): { at: number; action: () => void } | undefined {
    return this.#timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
  }
}

export class FakeSocket implements Socket {
  readonly sent: Record<string, unknown>[] = [];
  readonly token: string;
  readonly lastSeq: number;
  closedWith: number | null = null;
  readonly #events: SocketEvents;

  constructor(token: string, lastSeq: number, events: SocketEvents) {
    this.token = token;
    this.lastSeq = lastSeq;
    this.#events = events;
  }

  send(text: string): void {
    this.sent.push(JSON.parse(text) as Record<string, unknown>);
  }

  close(code: number): void {
    this.closedWith = code;
  }

  say(frame: object): void {
    this.#events.message(JSON.stringify(frame));
  }

  sayText(text: string): void {
    this.#events.message(text);
  }

  welcome(): void {
    this.say({ type: "Welcome", userId: 1, lastSeq: 0, expiresAt: 0 });
  }

  receive(entry: InboxEntry): void {
    const { inboxSeq, message } = entry;
    this.say({ type: "ReceiveMessage", seq: inboxSeq, userId: message.senderId, msg: message.body, message });
  }

  lose(code: number): void {
    this.#events.closed(code);
  }
}

/** Collects the sockets that are opened. */
export class FakeNetwork {
  readonly sockets: FakeSocket[] = [];

  readonly open = (token: string, lastSeq: number, events: SocketEvents): FakeSocket => {
    const socket = new FakeSocket(token, lastSeq, events);
    this.sockets.push(socket);
    return socket;
  };

  get last(): FakeSocket {
    const socket = this.sockets.at(-1);
    if (!socket) throw new Error("no socket was opened");
    return socket;
  }
}

export function message(seq: number, changes: Partial<Message> = {}): Message {
  return {
    messageUid: `uid-${seq}`,
    conversationId: "c1",
    seq,
    senderId: 2,
    recipientIds: [1],
    body: `message ${seq}`,
    fromAutoReply: false,
    sentAt: seq * 1000,
    ...changes,
  };
}

export function entry(inboxSeq: number, changes: Partial<Message> = {}): InboxEntry {
  return { inboxSeq, message: message(inboxSeq, changes) };
}

export function conversation(changes: Partial<Conversation> = {}): Conversation {
  return {
    conversationId: "c1",
    title: null,
    participantIds: [1, 2],
    lastMessage: null,
    lastSeq: 0,
    readSeq: 0,
    unread: 0,
    ...changes,
  };
}

/** Lets everything that waits for a settled promise run. */
export function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
