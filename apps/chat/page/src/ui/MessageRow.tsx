import type { Outgoing } from "../model/chat.ts";
import { personName } from "../model/names.ts";
import { pieces } from "../model/text.ts";
import { clockTime, fullTime } from "../model/time.ts";
import type { Message } from "../model/types.ts";
import { Avatar } from "./controls.tsx";
import { useChat, useSession } from "./hooks.ts";
import { Icon } from "./icons.tsx";

interface MessageRowProps {
  message: Message;
  /** The day's name, if this message is its first. */
  day: string | null;
  unreadBegins: boolean;
  /** Whether it stands under the same name as the message before. */
  joined: boolean;
}

export function MessageRow({ message, day, unreadBegins, joined }: MessageRowProps) {
  const { me, people } = useChat();
  const own = message.senderId === me;
  const sender = own ? "You" : personName(people[message.senderId], message.senderId);
  return (
    <li
      className="message"
      data-own={own}
      data-joined={joined}
      data-state="delivered"
      data-message={message.messageUid}
    >
      {day && <p className="divider">{day}</p>}
      {unreadBegins && <p className="divider new">New</p>}
      <div className="message-line">
        {!own && <Avatar name={sender} />}
        <div className="bubble">
          <p className={own || joined ? "unseen" : "sender"}>
            <bdi>{sender}</bdi>
          </p>
          <Body text={message.body} />
          <p className="meta">
            {message.fromAutoReply && <span>auto-reply · </span>}
            <time dateTime={new Date(message.sentAt).toISOString()} title={fullTime(message.sentAt)}>
              {clockTime(message.sentAt)}
            </time>
            {own && <Status icon="checks" text="Delivered" />}
          </p>
        </div>
      </div>
    </li>
  );
}

const STATUS = {
  sending: { icon: "clock", text: "Sending" },
  accepted: { icon: "check", text: "Accepted" },
  refused: { icon: "warning", text: "Not sent" },
} as const;

/** A message of one's own that has no place in the order yet. */
export function OutgoingRow({ outgoing }: { outgoing: Outgoing }) {
  const { messageUid, body, state, reason } = outgoing;
  return (
    <li className="message" data-own="true" data-state={state} data-message={messageUid}>
      <div className="message-line">
        <div className="bubble">
          <p className="unseen">You</p>
          <Body text={body} />
          <p className="meta">
            {state === "refused" && <span className="error">{reason} · </span>}
            <Status {...STATUS[state]} />
          </p>
          {state === "refused" && <RefusedActions messageUid={messageUid} />}
        </div>
      </div>
    </li>
  );
}

function RefusedActions({ messageUid }: { messageUid: string }) {
  const session = useSession();
  return (
    <p className="row end">
      <button
        type="button"
        className="link"
        onClick={() => {
          session.resend(messageUid);
        }}
      >
        Try again
      </button>
      <button
        type="button"
        className="link"
        onClick={() => {
          session.discard(messageUid);
        }}
      >
        Discard
      </button>
    </p>
  );
}

function Status({ icon, text }: { icon: "clock" | "check" | "checks" | "warning"; text: string }) {
  return (
    <span className="status" title={text}>
      <Icon name={icon} />
      <span className="unseen">{text}</span>
    </span>
  );
}

/** The text as it is, never as markup; only complete web addresses can be followed. */
function Body({ text }: { text: string }) {
  return (
    <p className="body" dir="auto">
      {pieces(text).map((piece, index) =>
        piece.href === undefined ? (
          piece.text
        ) : (
          <a key={index} href={piece.href} target="_blank" rel="noopener noreferrer">
            {piece.text}
          </a>
        ),
      )}
    </p>
  );
}
