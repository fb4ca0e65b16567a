import { useEffect, useEffectEvent, useRef, useState } from "react";
import type { ChatState, Outgoing, Thread } from "../model/chat.ts";
import { dayName, daysAgo } from "../model/time.ts";
import type { Message } from "../model/types.ts";
import { Loading } from "./controls.tsx";
import { useChat, useNow, useSession } from "./hooks.ts";
import { Icon } from "./icons.tsx";
import { MessageRow, OutgoingRow } from "./MessageRow.tsx";

/** Messages of one person within this time stand together under one name. */
const TOGETHER_MS = 300_000;
/** Scrolled further up than this, in pixels, new messages don't come into view by themselves. */
const FAR_UP = 240;

/** The messages of a conversation. Its box is laid out from below (see the style sheet), so the newest stays in view by itself. */
export function MessageList({ thread }: { thread: Thread }) {
  const state = useChat();
  const box = useRef<HTMLDivElement>(null);
  const [farUp, setFarUp] = useState(false);
  const waiting = state.outbox.filter(({ conversationId }) => conversationId === thread.conversationId);
  const lastWaiting = waiting.at(-1)?.messageUid;
  const toNewest = () => {
    box.current?.scrollTo({ top: 0 });
  };
  useEffect(() => {
    if (lastWaiting) box.current?.scrollTo({ top: 0 });
  }, [lastWaiting]);

  return (
    <div className="messages-frame">
      <div
        ref={box}
        className="messages-box"
        tabIndex={0}
        role="region"
        aria-label="Messages"
        onScroll={(event) => {
          setFarUp(-event.currentTarget.scrollTop > FAR_UP);
        }}
      >
        <div className="messages-column">
          <Earlier thread={thread} />
          <Rows state={state} thread={thread} waiting={waiting} />
        </div>
      </div>
      {farUp && (
        <button type="button" className="to-newest" onClick={toNewest}>
          <Icon name="down" /> Newest messages
        </button>
      )}
    </div>
  );
}

function Rows({ state, thread, waiting }: { state: ChatState; thread: Thread; waiting: Outgoing[] }) {
  const now = useNow();
  const { messages } = thread;
  const firstUnread = firstUnreadSeq(state, messages);
  return (
    <ol className="messages">
      {messages.map((message, index) => {
        const previous = messages[index - 1];
        const newDay = !previous || daysAgo(previous.sentAt, message.sentAt) !== 0;
        const unread = message.seq === firstUnread;
        return (
          <MessageRow
            key={message.seq}
            message={message}
            day={newDay ? dayName(message.sentAt, now) : null}
            unreadBegins={unread}
            joined={!newDay && !unread && together(previous, message)}
          />
        );
      })}
      {waiting.map((outgoing) => (
        <OutgoingRow key={outgoing.messageUid} outgoing={outgoing} />
      ))}
    </ol>
  );
}

function firstUnreadSeq({ current, me }: ChatState, messages: Message[]): number | undefined {
  const after = current?.unreadAfter;
  if (after === null || after === undefined) return undefined;
  return messages.find(({ seq, senderId }) => seq > after && senderId !== me)?.seq;
}

function together(previous: Message, message: Message): boolean {
  return (
    previous.senderId === message.senderId &&
    previous.fromAutoReply === message.fromAutoReply &&
    message.sentAt - previous.sentAt < TOGETHER_MS
  );
}

/** The top of the list: fetches earlier messages when it comes into view, or when its button is pressed. */
function Earlier({ thread }: { thread: Thread }) {
  const session = useSession();
  const top = useRef<HTMLDivElement>(null);
  const { history, conversationId } = thread;
  const load = () => {
    void session.loadHistory(conversationId);
  };
  const seen = useEffectEvent((entries: IntersectionObserverEntry[]) => {
    if (history === "more" && entries.some(({ isIntersecting }) => isIntersecting)) load();
  });
  useEffect(() => {
    const observer = new IntersectionObserver((entries) => {
      seen(entries);
    });
    if (top.current) observer.observe(top.current);
    return () => {
      observer.disconnect();
    };
  }, [history]);

  return (
    <div ref={top} className="earlier">
      {history === "loading" && <Loading what="messages" />}
      {history === "complete" && <p className="quiet">This is where the conversation begins.</p>}
      {history === "more" && (
        <button type="button" className="secondary" onClick={load}>
          Show earlier messages
        </button>
      )}
      {history === "failed" && (
        <p className="error" role="alert">
          The messages could not be loaded.{" "}
          <button type="button" className="link" onClick={load}>
            Try again
          </button>
        </p>
      )}
    </div>
  );
}
