/**
 * Sends one's own messages, one at a time, so that they are ordered as they were written.
 *
 * The outbox itself is part of the chat's state; this decides what goes out next. A message keeps its messageUid for
 * life: after a lost connection or a reloaded page it is sent again under it, and the server stores it once.
 */
import type { Outgoing } from "../model/chat.ts";
import type { ClientFrame } from "../model/types.ts";

/** A message not answered in this time means that the connection is dead, whatever the socket says. */
const ANSWER_WITHIN_MS = 15_000;

export interface SenderPorts {
  /** The oldest message that still has to be sent. */
  next: () => Outgoing | undefined;
  recipients: (conversationId: string) => number[];
  send: (frame: ClientFrame) => boolean;
  /** Called when no answer came: the connection is no good. */
  unanswered: () => void;
  schedule: (delayMs: number, action: () => void) => () => void;
}

export class Sender {
  readonly #ports: SenderPorts;
  #inFlight: { messageUid: string; cancelTimer: () => void } | null = null;

  constructor(ports: SenderPorts) {
    this.#ports = ports;
  }

  /** The message sent but not yet answered. */
  get inFlight(): string | null {
    return this.#inFlight?.messageUid ?? null;
  }

  /** Sends the next message if none is under way. */
  flush(): void {
    const next = this.#inFlight ? undefined : this.#ports.next();
    if (!next || !this.#ports.send(this.#frame(next))) return;
    const cancelTimer = this.#ports.schedule(ANSWER_WITHIN_MS, () => {
      this.#ports.unanswered();
    });
    this.#inFlight = { messageUid: next.messageUid, cancelTimer };
  }

  /** The server has answered for this message, or it came back through the inbox. */
  answered(messageUid: string): void {
    if (this.inFlight !== messageUid) return;
    this.interrupted();
    this.flush();
  }

  /** The connection is gone: what was under way must go out again. */
  interrupted(): void {
    this.#inFlight?.cancelTimer();
    this.#inFlight = null;
  }

  #frame({ messageUid, body, conversationId }: Outgoing): ClientFrame {
    const destinationUsers = this.#ports.recipients(conversationId);
    return { type: "SendMessage", messageUid, message: body, destinationUsers, conversationId };
  }
}
