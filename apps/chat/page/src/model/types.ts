/** What the services and the page say to each other, as JSON. Times are Unix milliseconds. */

export interface Person {
  id: number;
  username: string;
  name: string;
  surname: string;
  online: boolean;
}

/** `seq` counts within the conversation. */
export interface Message {
  messageUid: string;
  conversationId: string;
  seq: number;
  senderId: number;
  recipientIds: number[];
  body: string;
  fromAutoReply: boolean;
  sentAt: number;
}

/** `inboxSeq` counts all messages of one user, without gaps: what a client resumes after. */
export interface InboxEntry {
  inboxSeq: number;
  message: Message;
}

export interface Conversation {
  conversationId: string;
  title: string | null;
  participantIds: number[];
  lastMessage: Message | null;
  lastSeq: number;
  readSeq: number;
  unread: number;
}

export interface Notice {
  id: string;
  number: number;
  kind: string;
  body: string;
  at: number;
  read: boolean;
}

export interface Login {
  token: string;
  id: number;
  username: string;
  expiresAt: number;
}

export interface AutoReply {
  messageBody: string;
  enabled: boolean;
}

export const DIRECTIONS = ["outgoing", "incoming"] as const;
export type Direction = (typeof DIRECTIONS)[number];
export const LANGUAGES = ["python", "lua", "jolie"] as const;
export type Language = (typeof LANGUAGES)[number];

export interface Script {
  direction: Direction;
  language: Language;
  enabled: boolean;
  size: number;
  digest: string;
  updatedAt: number;
}

export interface ScriptSource extends Script {
  source: string;
}

/** What a script is called with; `senderID` for incoming messages only. */
export interface TrialInput {
  messageBody: string;
  ownID: number;
  recipientIDs: number[];
  senderID?: number;
}

export type Trial =
  | { ok: true; result: unknown; output: string; fuelUsed: number }
  | { ok: false; error: string; detail: string; line?: number };

export type ServerFrame =
  | { type: "Welcome"; userId: number; lastSeq: number; expiresAt: number }
  | { type: "ReceiveMessage"; seq: number; userId: number; msg: string; message: Message }
  | { type: "Accepted"; messageUid: string }
  | { type: "Refused"; messageUid: string; code: string; title: string }
  | { type: "Notice"; notification: Notice }
  | { type: "Read"; conversationId: string; seq: number }
  | { type: "Ping" };

export type ClientFrame =
  | {
      type: "SendMessage";
      messageUid: string;
      message: string;
      destinationUsers: number[];
      conversationId: string;
    }
  | { type: "Pong" }
  | { type: "Renew"; token: string };
