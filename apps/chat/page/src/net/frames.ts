/** Reads what the server sends over the socket. Types that this page doesn't know are passed over, so that a newer server can speak to it. */
import type { ServerFrame } from "../model/types.ts";

const REQUIRED: Record<ServerFrame["type"], string[]> = {
  Welcome: ["userId", "lastSeq", "expiresAt"],
  ReceiveMessage: ["seq", "message"],
  Accepted: ["messageUid"],
  Refused: ["messageUid", "code", "title"],
  Notice: ["notification"],
  Read: ["conversationId", "seq"],
  Ping: [],
};

/** The frame, or null for a type unknown here. Throws a `TypeError` for text that is no frame at all. */
export function readFrame(text: string): ServerFrame | null {
  const frame = parse(text);
  const required = Object.hasOwn(REQUIRED, frame.type) ? REQUIRED[frame.type as ServerFrame["type"]] : null;
  if (!required) return null;
  const missing = required.filter((name) => !(name in frame));
  if (missing.length > 0) throw new TypeError(`${frame.type} without ${missing.join(", ")}`);
  return frame as ServerFrame;
}

function parse(text: string): { type: string } {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new TypeError("a frame that is not JSON", { cause: error });
  }
  if (typeof value === "object" && value !== null && "type" in value && typeof value.type === "string") {
    return value as { type: string };
  }
  throw new TypeError("a frame without a type");
}
