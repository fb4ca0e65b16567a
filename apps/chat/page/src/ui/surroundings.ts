/** The browser's side of a session: sockets, timers, ids. */
import { Api } from "../net/api.ts";
import type { Socket, SocketEvents } from "../net/connection.ts";
import type { Memory } from "../session/memory.ts";
import type { Surroundings } from "../session/session.ts";

export function browser(memory: Memory): Surroundings {
  return {
    api: new Api((...request) => fetch(...request)),
    memory,
    openSocket,
    schedule(delayMs, action) {
      const timer = setTimeout(action, delayMs);
      return () => {
        clearTimeout(timer);
      };
    },
    random: Math.random,
    now: Date.now,
    newUid: randomUuid,
  };
}

function openSocket(token: string, lastSeq: number, events: SocketEvents): Socket {
  const url = new URL(`/ws?last_seq=${lastSeq}`, location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  const socket = new WebSocket(url, ["chat", token]);
  socket.addEventListener("message", ({ data }) => {
    events.message(data);
  });
  socket.addEventListener("close", ({ code }) => {
    events.closed(code);
  });
  return socket;
}

/** A version 4 UUID; `crypto.randomUUID` is missing where the page isn't served over https or from this machine. */
function randomUuid(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes.set([((bytes[6] ?? 0) & 0x0f) | 0x40], 6);
  bytes.set([((bytes[8] ?? 0) & 0x3f) | 0x80], 8);
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/u, "$1-$2-$3-$4-$5");
}
