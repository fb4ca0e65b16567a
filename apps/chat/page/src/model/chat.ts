/**
 * The state of one signed-in user's chat and all that may happen to it, as a pure reducer.
 *
 * A message of one's own lives in `outbox` from the moment it is sent until it comes back through the inbox with its
 * place in the order; from then on it is in its conversation's `messages`, like everybody else's.
 */
import type { Conversation, Message, Notice, Person } from "./types.ts";

/** Messages of one conversation kept once it is no longer in view; older ones are fetched again when asked for. */
export const KEPT_OUT_OF_VIEW = 200;
/** Notices kept: the newest. */
export const KEPT_NOTICES = 200;

export type HistoryState = "unloaded" | "loading" | "more" | "complete" | "failed";

export interface Thread extends Conversation {
  /** Ascending by `seq`, without doubles. */
  messages: Message[];
  history: HistoryState;
}

export interface Outgoing {
  messageUid: string;
  conversationId: string;
  body: string;
  composedAt: number;
  /** `accepted`: durable, but its place in the order isn't known yet. */
  state: "sending" | "accepted" | "refused";
  reason?: string;
}

export interface ChatState {
  me: number;
  threads: Record<string, Thread>;
  outbox: Outgoing[];
  people: Record<number, Person>;
  notices: Notice[];
  /** The conversation in view, and where its unread messages began when it was opened. */
  current: { conversationId: string; unreadAfter: number | null } | null;
}

export type ChatAction =
  | { type: "conversationsLoaded"; conversations: Conversation[] }
  | { type: "peopleLoaded"; people: Person[] }
  | { type: "opened"; conversationId: string | null }
  | { type: "historyRequested" | "historyFailed"; conversationId: string }
  | { type: "historyLoaded"; conversationId: string; messages: Message[]; complete: boolean }
  | { type: "arrived"; messages: Message[] }
  | { type: "composed"; outgoing: Outgoing }
  | { type: "accepted" | "retried" | "discarded"; messageUid: string }
  | { type: "refused"; messageUid: string; reason: string }
  | { type: "read"; conversationId: string; seq: number }
  | { type: "noticesLoaded"; notices: Notice[] }
  | { type: "noticesRead"; through: number };

export function emptyChat(me: number): ChatState {
  return { me, threads: {}, outbox: [], people: {}, notices: [], current: null };
}

export function reduce(state: ChatState, action: ChatAction): ChatState {
  switch (action.type) {
    case "conversationsLoaded":
      return { ...state, threads: action.conversations.reduce(withConversation, state.threads) };
    case "peopleLoaded":
      return { ...state, people: Object.fromEntries(action.people.map((person) => [person.id, person])) };
    case "opened":
      return opened(state, action.conversationId);
    case "historyRequested":
      return changeThread(state, action.conversationId, (thread) => ({ ...thread, history: "loading" }));
    case "historyFailed":
      return changeThread(state, action.conversationId, (thread) => ({ ...thread, history: "failed" }));
    case "historyLoaded":
      return changeThread(state, action.conversationId, (thread) => ({
        ...thread,
        messages: mergeMessages(thread.messages, action.messages),
        history: action.complete ? "complete" : "more",
      }));
    case "arrived":
      return action.messages.reduce(arrived, state);
    case "composed":
      return { ...state, outbox: [...state.outbox, action.outgoing] };
    case "accepted":
      return changeOutgoing(state, action.messageUid, (outgoing) => ({ ...outgoing, state: "accepted" }));
    case "retried":
      return changeOutgoing(state, action.messageUid, (outgoing) => ({ ...outgoing, state: "sending" }));
    case "refused":
      return changeOutgoing(state, action.messageUid, (outgoing) => ({
        ...outgoing,
        state: "refused",
        reason: action.reason,
      }));
    case "discarded":
      return { ...state, outbox: state.outbox.filter(({ messageUid }) => messageUid !== action.messageUid) };
    case "read":
      return changeThread(state, action.conversationId, (thread) => readThrough(thread, action.seq));
    case "noticesLoaded":
      return { ...state, notices: mergeNotices(state.notices, action.notices) };
    case "noticesRead":
      return {
        ...state,
        notices: state.notices.map((notice) => (notice.number <= action.through ? { ...notice, read: true } : notice)),
      };
  }
}

function changeThread(state: ChatState, id: string, change: (thread: Thread) => Thread): ChatState {
  const thread = state.threads[id];
  return thread ? { ...state, threads: { ...state.threads, [id]: change(thread) } } : state;
}

function changeOutgoing(state: ChatState, uid: string, change: (outgoing: Outgoing) => Outgoing): ChatState {
  return { ...state, outbox: state.outbox.map((each) => (each.messageUid === uid ? change(each) : each)) };
}

/** Takes over a conversation from the server, unless a message that came meanwhile makes what we hold newer. */
function withConversation(threads: Record<string, Thread>, conversation: Conversation): Record<string, Thread> {
  const held = threads[conversation.conversationId];
  const thread: Thread = { messages: [], history: "unloaded", ...held, ...conversation };
  if (held && held.lastSeq > conversation.lastSeq) {
    Object.assign(thread, { lastMessage: held.lastMessage, lastSeq: held.lastSeq, unread: held.unread });
  }
  return { ...threads, [conversation.conversationId]: readThrough(thread, held?.readSeq ?? 0) };
}

function opened(state: ChatState, conversationId: string | null): ChatState {
  const left = state.current?.conversationId;
  const trimmed = left && left !== conversationId ? changeThread(state, left, trim) : state;
  const thread = conversationId ? trimmed.threads[conversationId] : null;
  const current = thread && {
    conversationId: thread.conversationId,
    unreadAfter: thread.unread > 0 ? thread.readSeq : null,
  };
  return { ...trimmed, current: current ?? null };
}

function trim(thread: Thread): Thread {
  if (thread.messages.length <= KEPT_OUT_OF_VIEW) return thread;
  return { ...thread, messages: thread.messages.slice(-KEPT_OUT_OF_VIEW), history: "more" };
}

function arrived(state: ChatState, message: Message): ChatState {
  const outbox = state.outbox.filter(({ messageUid }) => messageUid !== message.messageUid);
  const thread = state.threads[message.conversationId] ?? stranger(message);
  const threads = { ...state.threads, [thread.conversationId]: withMessage(thread, message, state.me) };
  return { ...state, outbox, threads };
}

/** A conversation that the server hasn't described yet. */
function stranger(message: Message): Thread {
  return {
    conversationId: message.conversationId,
    title: null,
    participantIds: [...new Set([message.senderId, ...message.recipientIds])].sort((a, b) => a - b),
    lastMessage: null,
    lastSeq: 0,
    readSeq: 0,
    unread: 0,
    messages: [],
    history: "unloaded",
  };
}

function withMessage(thread: Thread, message: Message, me: number): Thread {
  const messages = thread.history === "unloaded" ? [] : mergeMessages(thread.messages, [message]);
  if (message.seq <= thread.lastSeq) return { ...thread, messages };
  const unread = message.senderId === me ? thread.unread : thread.unread + 1;
  return { ...thread, messages, lastMessage: message, lastSeq: message.seq, unread };
}

function mergeMessages(held: Message[], more: Message[]): Message[] {
  const bySeq = new Map([...held, ...more].map((message) => [message.seq, message]));
  return [...bySeq.values()].sort((a, b) => a.seq - b.seq);
}

function readThrough(thread: Thread, seq: number): Thread {
  if (seq <= thread.readSeq) return thread;
  return { ...thread, readSeq: seq, unread: seq >= thread.lastSeq ? 0 : thread.unread };
}

function mergeNotices(held: Notice[], more: Notice[]): Notice[] {
  const byNumber = new Map([...held, ...more].map((notice) => [notice.number, notice]));
  return [...byNumber.values()].sort((a, b) => b.number - a.number).slice(0, KEPT_NOTICES);
}
