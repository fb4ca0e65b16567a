import assert from "node:assert/strict";
import { test } from "node:test";
import { byteLength, pieces } from "../../src/model/text.ts";

const links = (body: string) => pieces(body).flatMap(({ href }) => href ?? []);
const joined = (body: string) =>
  pieces(body)
    .map(({ text }) => text)
    .join("");

test("http and https addresses become links", () => {
  assert.deepEqual(links("see https://example.org/a?b=c#d and http://example.net."), [
    "https://example.org/a?b=c#d",
    "http://example.net/",
  ]);
});

test("punctuation around an address stays outside", () => {
  assert.deepEqual(links("(https://example.org/a)."), ["https://example.org/a"]);
  assert.deepEqual(links("https://example.org/a_(b)!"), ["https://example.org/a_(b)"]);
});

for (const body of [
  "javascript:alert(1)",
  "data:text/html,<script>alert(1)</script>",
  "JaVaScRiPt://https//x",
  "ftp://example.org",
  "//example.org",
  "www.example.org",
  "http://",
  "https://[",
]) {
  test(`${body} is no link`, () => {
    assert.deepEqual(links(body), []);
  });
}

for (const body of ["", "<b>no</b> https://a.example/<script>", "a https://x.example/\u202egpj.exe b", "👩‍👩‍👧 é"]) {
  test(`nothing of ${JSON.stringify(body)} is lost or changed`, () => {
    assert.equal(joined(body), body);
  });
}

test("an address ends before a character that hides or turns text", () => {
  assert.deepEqual(links("https://x.example/\u202egpj.exe"), ["https://x.example/"]);
});

test("the weight of a text is its UTF-8", () => {
  assert.equal(byteLength("aé€😀"), 1 + 2 + 3 + 4);
});
