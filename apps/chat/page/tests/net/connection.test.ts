import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import type { InboxEntry } from "../../src/model/types.ts";
import { CLOSE, Connection, type ConnectionState } from "../../src/net/connection.ts";
import { FakeClock, FakeNetwork, entry, settled } from "../world.ts";

let clock: FakeClock;
let network: FakeNetwork;
let connection: Connection;
let states: ConnectionState[];
let got: number[];
let passed: string[];
/** What the inbox holds, by number; or the error that it answers with. */
let inbox: InboxEntry[] | Error;
let asked: number[];

beforeEach(() => {
  clock = new FakeClock();
  network = new FakeNetwork();
  [states, got, passed, asked, inbox] = [[], [], [], [], []];
  const ports = {
    open: network.open,
    schedule: clock.schedule,
    random: () => 1,
    inbox: (after: number) => {
      asked.push(after);
      if (inbox instanceof Error) return Promise.reject(inbox);
      return Promise.resolve(inbox.filter(({ inboxSeq }) => inboxSeq > after).slice(0, 2));
    },
  };
  const listener = {
    state: (state: ConnectionState) => states.push(state),
    entries: (entries: InboxEntry[]) => got.push(...entries.map(({ inboxSeq }) => inboxSeq)),
    frame: ({ type }: { type: string }) => passed.push(type),
    closed: () => undefined,
  };
  connection = new Connection(ports, listener, "token-1", 10);
  connection.open();
});

describe("opening", () => {
  test("resumes after the last number with the token", () => {
    assert.equal(network.last.lastSeq, 10);
    assert.equal(network.last.token, "token-1");
    assert.deepEqual(states, ["connecting"]);
  });

  test("is online only with the server's welcome", () => {
    assert.equal(connection.send({ type: "Pong" }), false);
    network.last.welcome();
    assert.equal(connection.state, "online");
    assert.equal(connection.send({ type: "Pong" }), true);
    assert.deepEqual(passed, ["Welcome"]);
  });

  test("without a welcome in time the socket is given up", () => {
    clock.turn(10_000);
    assert.equal(network.last.closedWith, CLOSE.unanswered);
    assert.equal(connection.state, "waiting");
    clock.turn(500);
    assert.equal(network.sockets.length, 2);
  });
});

describe("receiving", () => {
  beforeEach(() => {
    network.last.welcome();
  });

  test("gives entries once and in order", () => {
    for (const seq of [11, 12, 11, 12, 13]) network.last.receive(entry(seq));
    assert.deepEqual(got, [11, 12, 13]);
    assert.deepEqual(asked, []);
  });

  test("fills a hole from the inbox, page by page, before going on", async () => {
    inbox = [11, 12, 13, 14, 15].map((seq) => entry(seq));
    network.last.receive(entry(15));
    network.last.receive(entry(16));
    assert.deepEqual(got, []);
    await settled();
    assert.deepEqual(got, [11, 12, 13, 14, 15, 16]);
    assert.equal(connection.state, "online");
    assert.equal(network.sockets.length, 1);
  });

  test("a hole that the inbox can't fill makes it resume", async () => {
    network.last.receive(entry(13));
    await settled();
    assert.equal(connection.state, "waiting");
    clock.turn(500);
    assert.equal(network.last.lastSeq, 10);
    network.last.welcome();
    for (const seq of [11, 12, 13]) network.last.receive(entry(seq));
    assert.deepEqual(got, [11, 12, 13]);
  });

  test("answers a ping", () => {
    network.last.say({ type: "Ping" });
    assert.deepEqual(network.last.sent, [{ type: "Pong" }]);
  });

  test("something unreadable makes it start anew", (context) => {
    context.mock.method(console, "error", () => undefined);
    network.last.sayText("{");
    assert.equal(connection.state, "waiting");
  });

  test("catching up brings what the socket missed, once", async () => {
    inbox = [entry(11), entry(12)];
    await connection.catchUp();
    network.last.receive(entry(11));
    network.last.receive(entry(12));
    assert.deepEqual(got, [11, 12]);
  });
});

describe("losing the connection", () => {
  test("resumes after the last number given out", () => {
    network.last.welcome();
    network.last.receive(entry(11));
    network.last.lose(1006);
    assert.equal(connection.state, "waiting");
    clock.turn(500);
    assert.equal(network.last.lastSeq, 11);
  });

  test("waits longer each time, and starts anew after a steady connection", async () => {
    const waits: number[] = [];
    for (let attempt = 0; attempt < 4; attempt += 1) {
      network.last.lose(1006);
      waits.push(clock.wait);
      clock.turn(clock.wait);
      await settled();
    }
    network.last.welcome();
    network.last.lose(1012);
    waits.push(clock.wait);
    clock.turn(clock.wait);
    network.last.welcome();
    clock.turn(5_000);
    network.last.lose(1012);
    waits.push(clock.wait);
    assert.deepEqual(waits, [500, 1000, 2000, 4000, 8000, 500]);
  });

  test("a socket that was let go of is no longer heard", () => {
    const first = network.last;
    first.welcome();
    connection.retryLater();
    clock.turn(500);
    first.receive(entry(11));
    first.lose(4401);
    assert.deepEqual(got, []);
    assert.equal(connection.state, "connecting");
  });

  test("an expired token ends it until a new one comes", () => {
    network.last.welcome();
    network.last.lose(CLOSE.expired);
    assert.equal(connection.state, "expired");
    clock.turn(3_600_000);
    assert.equal(network.sockets.length, 1);
    connection.renew("token-2");
    assert.equal(network.last.token, "token-2");
  });

  test("a refused upgrade is looked into: the inbox knows that the token is no good", async () => {
    inbox = Object.assign(new Error("no"), { status: 401 });
    network.last.lose(1006);
    await settled();
    assert.equal(connection.state, "expired");
  });

  test("where sockets don't work the inbox still brings the messages", async () => {
    inbox = [entry(11)];
    network.last.lose(1006);
    await settled();
    assert.deepEqual(got, [11]);
    assert.equal(connection.state, "waiting");
  });

  test("a fresh token goes over the standing connection", () => {
    network.last.welcome();
    connection.renew("token-2");
    assert.deepEqual(network.last.sent, [{ type: "Renew", token: "token-2" }]);
    assert.equal(network.sockets.length, 1);
  });

  test("once stopped it stays so", async () => {
    network.last.welcome();
    connection.stop();
    clock.turn(3_600_000);
    await settled();
    assert.equal(network.last.closedWith, CLOSE.normal);
    assert.equal(network.sockets.length, 1);
  });
});
