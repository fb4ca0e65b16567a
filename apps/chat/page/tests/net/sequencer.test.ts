import assert from "node:assert/strict";
import { test } from "node:test";
import { Sequencer } from "../../src/net/sequencer.ts";
import { entry } from "../world.ts";

const numbers = (entries: { inboxSeq: number }[]) => entries.map(({ inboxSeq }) => inboxSeq);

test("entries in order pass at once", () => {
  const sequencer = new Sequencer(4);
  assert.deepEqual(numbers(sequencer.offer(entry(5))), [5]);
  assert.deepEqual(numbers(sequencer.offer(entry(6))), [6]);
  assert.equal(sequencer.last, 6);
});

test("an entry that came before is dropped", () => {
  const sequencer = new Sequencer(4);
  sequencer.offer(entry(5));
  assert.deepEqual(sequencer.offer(entry(5)), []);
  assert.deepEqual(sequencer.offer(entry(3)), []);
  assert.equal(sequencer.hasGap, false);
});

test("an early entry waits for those before it", () => {
  const sequencer = new Sequencer(0);
  assert.deepEqual(sequencer.offer(entry(3)), []);
  assert.equal(sequencer.hasGap, true);
  assert.deepEqual(numbers(sequencer.offer(entry(1))), [1]);
  assert.deepEqual(numbers(sequencer.offer(entry(2))), [2, 3]);
  assert.equal(sequencer.hasGap, false);
});

test("any order with repetitions comes out once and ascending", () => {
  const sequencer = new Sequencer(0);
  const given = [4, 2, 2, 1, 6, 3, 1, 5, 6, 4].flatMap((seq) => numbers(sequencer.offer(entry(seq))));
  assert.deepEqual(given, [1, 2, 3, 4, 5, 6]);
});

test("what is held back is bounded, and can be forgotten", () => {
  const sequencer = new Sequencer(0);
  for (let seq = 2; seq < 2000; seq += 1) sequencer.offer(entry(seq));
  assert.equal(sequencer.overflowed, true);
  sequencer.forgetHeld();
  assert.equal(sequencer.overflowed, false);
  assert.deepEqual(numbers(sequencer.offer(entry(1))), [1]);
});
