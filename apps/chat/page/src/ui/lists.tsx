/** The two lists at the side: conversations and people. */
import type { ReactNode } from "react";
import type { ChatState, Thread } from "../model/chat.ts";
import { conversationName, listedPeople, listedThreads, otherParticipants, personName } from "../model/names.ts";
import { shortTime } from "../model/time.ts";
import type { Person } from "../model/types.ts";
import { Avatar, Badge } from "./controls.tsx";
import { useChat, useNow, useSession } from "./hooks.ts";
import { type Route, go, href } from "./route.ts";

/** People listed at once; the search finds the others. */
const MOST_PEOPLE = 200;

export function ConversationList({ filter, route }: { filter: string; route: Route }) {
  const state = useChat();
  const now = useNow();
  const threads = listedThreads(state, filter);
  return (
    <ListSection title="Conversations" empty={filter ? "None found." : "None yet. Choose someone below to begin."}>
      {threads.map((thread) => {
        const { conversationId } = thread;
        const current = route.view === "conversation" && route.conversationId === conversationId;
        return (
          <li key={conversationId}>
            <a
              className="item"
              href={href({ view: "conversation", conversationId })}
              aria-current={current ? "page" : undefined}
            >
              <ConversationItem state={state} thread={thread} now={now} />
            </a>
          </li>
        );
      })}
    </ListSection>
  );
}

function ConversationItem({ state, thread, now }: { state: ChatState; thread: Thread; now: number }) {
  const name = conversationName(state, thread);
  const others = otherParticipants(thread, state.me);
  const only = others.length === 1 ? state.people[others[0] ?? 0] : undefined;
  const last = thread.lastMessage;
  return (
    <>
      <Avatar name={name} online={only?.online} />
      <span className="item-text">
        <span className="item-line">
          <bdi className="item-name">{name}</bdi>
          {last && <span className="item-time">{shortTime(last.sentAt, now)}</span>}
        </span>
        <span className="item-line">
          <span className="item-preview" dir="auto">
            {last ? preview(state, thread) : "No messages yet"}
          </span>
          <Badge count={thread.unread} what="unread" />
        </span>
      </span>
    </>
  );
}

function preview(state: ChatState, { lastMessage, participantIds }: Thread): string {
  if (!lastMessage) return "";
  const { senderId, body } = lastMessage;
  if (senderId === state.me) return `You: ${body}`;
  return participantIds.length > 2 ? `${personName(state.people[senderId], senderId)}: ${body}` : body;
}

export function PeopleList({ filter }: { filter: string }) {
  const session = useSession();
  const people = listedPeople(useChat(), filter);
  const talkTo = async (person: Person) => {
    try {
      go({ view: "conversation", conversationId: await session.converse([person.id]) });
    } catch (error) {
      session.failed(error);
    }
  };
  return (
    <ListSection title="People" empty={filter ? "None found." : "Nobody else is here yet."}>
      {people.slice(0, MOST_PEOPLE).map((person) => (
        <li key={person.id}>
          <button
            type="button"
            className="item"
            onClick={() => {
              void talkTo(person);
            }}
          >
            <PersonItem person={person} />
          </button>
        </li>
      ))}
    </ListSection>
  );
}

export function PersonItem({ person }: { person: Person }) {
  const name = personName(person, person.id);
  return (
    <>
      <Avatar name={name} online={person.online} />
      <span className="item-text">
        <bdi className="item-name">{name}</bdi>
        <span className="item-preview">
          <bdi>@{person.username}</bdi> · {person.online ? "online" : "offline"}
        </span>
      </span>
    </>
  );
}

function ListSection({ title, empty, children }: { title: string; empty: string; children: ReactNode[] }) {
  return (
    <section className="list" aria-label={title}>
      <h2>{title}</h2>
      {children.length > 0 ? <ul>{children}</ul> : <p className="quiet">{empty}</p>}
    </section>
  );
}
