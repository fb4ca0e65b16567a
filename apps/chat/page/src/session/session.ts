/**
 * One signed-in user's session: ties the services' API, the socket, the chat's state and the browser's memory together.
 *
 * React only watches its stores and calls its methods. The login may run out and be renewed in place; nothing written
 * is lost by it.
 */
import { type ChatAction, type ChatState, type Outgoing, emptyChat, reduce } from "../model/chat.ts";
import { conversationName, otherParticipants, personName, threadOf } from "../model/names.ts";
import type { InboxEntry, Login, Message, Notice } from "../model/types.ts";
import { type Api, PAGE, explain } from "../net/api.ts";
import { backoff } from "../net/backoff.ts";
import {
  CLOSE,
  Connection,
  type ConnectionState,
  type PassedFrame,
  type Socket,
  type SocketEvents,
} from "../net/connection.ts";
import type { Memory } from "./memory.ts";
import { Sender } from "./sender.ts";
import { Store } from "./store.ts";
import { Toasts } from "./toasts.ts";

/** Messages that may wait to be sent, e.g. while offline. */
export const MOST_WAITING = 100;
/** Refusals that say nothing about the message: it may have been taken or not, and under its messageUid it can go again. */
const PASSING: readonly string[] = ["unavailable", "outcome_unknown"];
const SEND_AGAIN_AFTER_MS = 2_000;
const PRESENCE_EVERY_MS = 20_000;
/** How long before its end the page asks to renew a login. */
const RENEW_BEFORE_MS = 120_000;
const LONGEST_TIMER_MS = 2 ** 31 - 1;
const MOST_NOTICE_PAGES = 20;

export interface Surroundings {
  api: Api;
  memory: Memory;
  openSocket: (token: string, lastSeq: number, events: SocketEvents) => Socket;
  schedule: (delayMs: number, action: () => void) => () => void;
  random: () => number;
  now: () => number;
  newUid: () => string;
}

export type LoadState = "loading" | "failed" | "ready";
export type LoginState = "valid" | "ending" | "expired";

export class Session {
  readonly chat: Store<ChatState>;
  readonly login: Store<Login>;
  readonly loginState = new Store<LoginState>("valid");
  readonly connectionState = new Store<ConnectionState>("connecting");
  readonly loadState = new Store<LoadState>("loading");
  /** The last thing worth saying to someone who can't see the page. */
  readonly announcement = new Store("");
  readonly toasts: Toasts;
  readonly #around: Surroundings;
  readonly #sender: Sender;
  #connection: Connection | null = null;
  #attended = true;
  #stopped = false;
  readonly #timers = new Map<string, () => void>();

  constructor(around: Surroundings, login: Login) {
    this.#around = around;
    this.login = new Store(login);
    this.chat = new Store(emptyChat(login.id));
    this.toasts = new Toasts(around.schedule);
    this.#sender = new Sender({
      next: () => this.chat.get().outbox.find(({ state }) => state === "sending"),
      recipients: (id) => this.#recipients(id),
      send: (frame) => this.#connection?.send(frame) ?? false,
      unanswered: () => this.#connection?.retryLater(),
      schedule: around.schedule,
    });
    around.api.token = login.token;
    around.api.onUnauthorized = () => {
      this.#setLoginState("expired");
    };
  }

  get me(): number {
    return this.login.get().id;
  }

  get api(): Api {
    return this.#around.api;
  }

  /** Loads what the server knows, then connects; keeps trying until it works or the session is stopped. */
  async start(attempt = 0): Promise<void> {
    this.#watchExpiry();
    try {
      await this.#load();
    } catch (error) {
      console.warn("Loading failed:", error);
      this.loadState.set("failed");
      if (this.#stopped || this.loginState.get() === "expired") return;
      this.#after("load", backoff(attempt + 2, this.#around.random), () => void this.start(attempt + 1));
    }
  }

  stop(): void {
    this.#stopped = true;
    this.#connection?.stop();
    this.#sender.interrupted();
    for (const cancel of this.#timers.values()) cancel();
  }

  /** Tries again now, whatever waiting time is left. */
  retryNow(): void {
    if (this.#connection) this.#connection.open();
    else void this.start();
  }

  /** Whether somebody looks at the page: only then are messages read, and presence is asked for. */
  attend(attended: boolean): void {
    this.#attended = attended;
    if (!attended || !this.#connection) return;
    void this.#connection.catchUp();
    this.#pollPeople();
    this.#markRead();
  }

  /** Brings a conversation into view (null: none). */
  open(conversationId: string | null): void {
    this.#do({ type: "opened", conversationId });
    const thread = conversationId ? this.chat.get().threads[conversationId] : undefined;
    if (thread?.history === "unloaded") void this.loadHistory(thread.conversationId);
    this.#markRead();
  }

  /** Fetches the page of messages before the oldest one held. */
  async loadHistory(conversationId: string): Promise<void> {
    const thread = this.chat.get().threads[conversationId];
    if (!thread || thread.history === "loading" || thread.history === "complete") return;
    this.#do({ type: "historyRequested", conversationId });
    try {
      const messages = await this.api.history(conversationId, thread.messages[0]?.seq);
      this.#do({ type: "historyLoaded", conversationId, messages, complete: messages.length < PAGE });
    } catch (error) {
      console.warn("History can't be loaded:", error);
      this.#do({ type: "historyFailed", conversationId });
    }
  }

  /** Starts or finds the conversation with these people and returns its id. */
  async converse(others: number[], title?: string): Promise<string> {
    const participantIds = [...new Set([this.me, ...others])].sort((a, b) => a - b);
    const held = threadOf(this.chat.get(), participantIds);
    if (held) return held.conversationId;
    const conversation = await this.api.createConversation(participantIds, title);
    this.#do({ type: "conversationsLoaded", conversations: [conversation] });
    return conversation.conversationId;
  }

  /** Puts a message on its way. False: too many are waiting already. */
  send(conversationId: string, body: string): boolean {
    const { outbox } = this.chat.get();
    if (outbox.length >= MOST_WAITING) return false;
    const messageUid = this.#around.newUid();
    const outgoing: Outgoing = { messageUid, conversationId, body, composedAt: this.#around.now(), state: "sending" };
    this.#around.memory.keepOutgoing(this.me, outgoing);
    this.#do({ type: "composed", outgoing });
    this.#sender.flush();
    return true;
  }

  resend(messageUid: string): void {
    this.#do({ type: "retried", messageUid });
    this.#sender.flush();
  }

  discard(messageUid: string): void {
    this.#around.memory.dropOutgoing(this.me, messageUid);
    this.#do({ type: "discarded", messageUid });
  }

  draft(conversationId: string): string {
    return this.#around.memory.draft(this.me, conversationId);
  }

  keepDraft(conversationId: string, text: string): void {
    this.#around.memory.keepDraft(this.me, conversationId, text);
  }

  markNoticesRead(): void {
    const { notices } = this.chat.get();
    const through = notices[0]?.number;
    if (through === undefined || notices.every(({ read }) => read)) return;
    this.#do({ type: "noticesRead", through });
    this.#background(this.api.markNoticesRead(through));
  }

  /** Logs the same user in again, without leaving anything. Throws an `ApiError` if the password is wrong. */
  async renew(password: string): Promise<void> {
    const login = await this.api.login(this.login.get().username, password);
    this.api.token = login.token;
    this.#around.memory.keepLogin(login);
    this.login.set(login);
    this.#setLoginState("valid");
    this.#watchExpiry();
    if (this.#connection) this.#connection.renew(login.token);
    else await this.start();
  }

  /** Shows why something that the user asked for didn't work. */
  failed(error: unknown): void {
    this.toasts.show({ kind: "error", text: explain(error) });
  }

  async #load(): Promise<void> {
    // The inbox's end first: what arrives while the rest is loaded comes again through the socket and is recognised.
    const { lastInboxSeq } = await this.api.inbox(0, 1);
    const [conversations, people] = await Promise.all([this.api.conversations(), this.api.people()]);
    if (this.#stopped) return;
    this.#do({ type: "peopleLoaded", people });
    this.#do({ type: "conversationsLoaded", conversations });
    for (const outgoing of this.#around.memory.outbox(this.me)) this.#do({ type: "composed", outgoing });
    this.loadState.set("ready");
    this.#connect(lastInboxSeq);
    this.#background(this.#loadNotices());
    this.#after("people", PRESENCE_EVERY_MS, () => {
      this.#pollPeople();
    });
  }

  #connect(lastSeq: number): void {
    const around = this.#around;
    const ports = {
      open: around.openSocket,
      inbox: async (after: number) => (await this.api.inbox(after)).entries,
      schedule: around.schedule,
      random: around.random,
    };
    const listener = {
      state: (state: ConnectionState) => {
        this.#connectionChanged(state);
      },
      entries: (entries: InboxEntry[]) => {
        this.#arrived(entries);
      },
      frame: (frame: PassedFrame) => {
        this.#handle(frame);
      },
      closed: (code: number) => {
        this.#blame(code);
      },
    };
    this.#connection = new Connection(ports, listener, this.login.get().token, lastSeq);
    this.#connection.open();
  }

  #connectionChanged(state: ConnectionState): void {
    this.connectionState.set(state);
    if (state !== "online") this.#sender.interrupted();
    if (state === "expired") this.#setLoginState("expired");
  }

  #handle(frame: PassedFrame): void {
    switch (frame.type) {
      case "Welcome":
        this.#sender.flush();
        break;
      case "Accepted":
        this.#around.memory.dropOutgoing(this.me, frame.messageUid);
        this.#do({ type: "accepted", messageUid: frame.messageUid });
        this.#sender.answered(frame.messageUid);
        break;
      case "Refused":
        if (PASSING.includes(frame.code)) this.#sendAgainLater();
        else this.#refused(frame.messageUid, frame.title);
        break;
      case "Notice":
        this.#noticed(frame.notification);
        break;
      case "Read":
        this.#do({ type: "read", conversationId: frame.conversationId, seq: frame.seq });
    }
  }

  #refused(messageUid: string, reason: string): void {
    this.#do({ type: "refused", messageUid, reason });
    const refused = this.chat.get().outbox.find((outgoing) => outgoing.messageUid === messageUid);
    if (refused) this.#around.memory.keepOutgoing(this.me, refused);
    this.#sender.answered(messageUid);
  }

  #sendAgainLater(): void {
    this.#sender.interrupted();
    this.#after("send", SEND_AGAIN_AFTER_MS, () => {
      this.#sender.flush();
    });
  }

  /** A close that blames a frame of ours would come again with each retry: the message under way is set aside. */
  #blame(code: number): void {
    const messageUid = this.#sender.inFlight;
    this.#sender.interrupted();
    if (messageUid && CLOSE.blamed.includes(code)) this.#refused(messageUid, "The server did not take this message");
  }

  #noticed(notice: Notice): void {
    this.#do({ type: "noticesLoaded", notices: [notice] });
    this.toasts.show({ kind: "notice", text: notice.body });
  }

  #arrived(entries: InboxEntry[]): void {
    const messages = entries.map(({ message }) => message);
    const before = this.chat.get();
    this.#do({ type: "arrived", messages });
    for (const { messageUid, senderId } of messages) {
      if (senderId !== this.me) continue;
      this.#around.memory.dropOutgoing(this.me, messageUid);
      this.#sender.answered(messageUid);
    }
    if (messages.some(({ conversationId }) => !(conversationId in before.threads))) {
      this.#background(this.#loadConversations());
    }
    const spoken = messages.findLast(({ senderId }) => senderId !== this.me);
    if (spoken) this.#announce(spoken);
    this.#markRead();
  }

  #announce(message: Message): void {
    const state = this.chat.get();
    const thread = state.threads[message.conversationId];
    const here = state.current?.conversationId === message.conversationId;
    const sender = personName(state.people[message.senderId], message.senderId);
    const place = thread ? conversationName(state, thread) : sender;
    this.announcement.set(here ? `${sender}: ${message.body}` : `New message in ${place}`);
  }

  #markRead(): void {
    const { current, threads } = this.chat.get();
    const thread = current ? threads[current.conversationId] : undefined;
    if (!this.#attended || !thread || thread.lastSeq <= thread.readSeq) return;
    const { conversationId, lastSeq } = thread;
    this.#do({ type: "read", conversationId, seq: lastSeq });
    this.#background(this.api.markRead(conversationId, lastSeq));
  }

  #pollPeople(): void {
    if (this.#attended) this.#background(this.#loadPeople());
    this.#after("people", PRESENCE_EVERY_MS, () => {
      this.#pollPeople();
    });
  }

  async #loadPeople(): Promise<void> {
    this.#do({ type: "peopleLoaded", people: await this.api.people() });
  }

  async #loadConversations(): Promise<void> {
    this.#do({ type: "conversationsLoaded", conversations: await this.api.conversations() });
  }

  async #loadNotices(): Promise<void> {
    let after = 0;
    for (let page = 0; page < MOST_NOTICE_PAGES; page += 1) {
      const notices = await this.api.notices(after);
      this.#do({ type: "noticesLoaded", notices });
      if (notices.length < PAGE) return;
      after = Math.max(...notices.map(({ number }) => number));
    }
  }

  #recipients(conversationId: string): number[] {
    const thread = this.chat.get().threads[conversationId];
    return thread ? otherParticipants(thread, this.me) : [];
  }

  #watchExpiry(): void {
    const left = this.login.get().expiresAt - RENEW_BEFORE_MS - this.#around.now();
    this.#after("expiry", Math.min(Math.max(left, 0), LONGEST_TIMER_MS), () => {
      if (left <= LONGEST_TIMER_MS) this.#setLoginState("ending");
      else this.#watchExpiry();
    });
  }

  /** An expired login stays expired until it is renewed, whatever timers say. */
  #setLoginState(state: LoginState): void {
    if (state === "ending" && this.loginState.get() === "expired") return;
    this.loginState.set(state);
  }

  /** For what the user didn't ask for: a failure isn't shown, the next round makes up for it. */
  #background(work: Promise<unknown>): void {
    work.catch((error: unknown) => {
      console.warn(explain(error), error);
    });
  }

  #after(name: string, delayMs: number, action: () => void): void {
    this.#timers.get(name)?.();
    this.#timers.set(name, this.#around.schedule(delayMs, action));
  }

  #do(action: ChatAction): void {
    this.chat.set(reduce(this.chat.get(), action));
  }
}
