/** What people and conversations are called and in which order they are listed. */
import type { ChatState, Thread } from "./chat.ts";
import type { Person } from "./types.ts";

export function personName(person: Person | undefined, id: number): string {
  if (!person) return `Person ${id}`;
  return [person.name, person.surname].filter(Boolean).join(" ") || person.username;
}

export function otherParticipants(thread: Thread, me: number): number[] {
  const others = thread.participantIds.filter((id) => id !== me);
  return others.length > 0 ? others : [me];
}

export function conversationName(state: ChatState, thread: Thread): string {
  if (thread.title) return thread.title;
  return otherParticipants(thread, state.me)
    .map((id) => personName(state.people[id], id))
    .join(", ");
}

/** Conversations, the newest first; `filter` is looked for in their names. */
export function listedThreads(state: ChatState, filter: string): Thread[] {
  return Object.values(state.threads)
    .filter((thread) => matches(conversationName(state, thread), filter))
    .sort((a, b) => (b.lastMessage?.sentAt ?? 0) - (a.lastMessage?.sentAt ?? 0));
}

/** Everybody but oneself, those online first, then by name; `filter` is looked for in names and usernames. */
export function listedPeople(state: ChatState, filter: string): Person[] {
  return Object.values(state.people)
    .filter((person) => person.id !== state.me)
    .filter((person) => matches(`${personName(person, person.id)} ${person.username}`, filter))
    .sort((a, b) => Number(b.online) - Number(a.online) || personName(a, a.id).localeCompare(personName(b, b.id)));
}

/** The conversation of exactly these people (oneself included), if there is one. */
export function threadOf(state: ChatState, ids: number[]): Thread | undefined {
  const wanted = new Set(ids);
  return Object.values(state.threads).find(
    ({ participantIds }) => participantIds.length === wanted.size && participantIds.every((id) => wanted.has(id)),
  );
}

export function unreadTotal(state: ChatState): number {
  return Object.values(state.threads).reduce((total, { unread }) => total + unread, 0);
}

export function unreadNotices(state: ChatState): number {
  return state.notices.filter(({ read }) => !read).length;
}

/** One or two letters that stand for a name: whole graphemes, so that no letter is cut, but without stacked accents. */
export function initials(name: string): string {
  const words = name
    .normalize("NFC")
    .replace(/\p{Mn}+/gu, "")
    .split(/[\s,]+/u)
    .filter(Boolean);
  const segmenter = new Intl.Segmenter();
  return words
    .slice(0, 2)
    .map((word) => [...segmenter.segment(word)][0]?.segment ?? "")
    .join("")
    .toLocaleUpperCase();
}

function matches(text: string, filter: string): boolean {
  return text.toLocaleLowerCase().includes(filter.trim().toLocaleLowerCase());
}
