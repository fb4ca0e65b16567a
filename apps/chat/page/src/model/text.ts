/** Message bodies as text: their size and the links in them. Nothing here makes markup. */

/** The most a message may weigh, in bytes of UTF-8. */
export const BODY_BYTES = 4096;

export type Piece = { text: string; href?: undefined } | { text: string; href: string };

const encoder = new TextEncoder();

export function byteLength(text: string): number {
  return encoder.encode(text).length;
}

/** Splits a text into plain pieces and links. Only complete http and https addresses become links. */
export function pieces(body: string): Piece[] {
  const found: Piece[] = [];
  let end = 0;
  for (const match of body.matchAll(/\bhttps?:\/\/[^\s<>"'`\p{Cc}\p{Cf}]+/giu)) {
    const text = withoutTrailingPunctuation(match[0]);
    const href = address(text);
    if (!href) continue;
    if (match.index > end) found.push({ text: body.slice(end, match.index) });
    found.push({ text, href });
    end = match.index + text.length;
  }
  if (end < body.length) found.push({ text: body.slice(end) });
  return found;
}

function address(text: string): string | null {
  const url = URL.parse(text);
  return url && (url.protocol === "https:" || url.protocol === "http:") ? url.href : null;
}

/** "(see https://example.org/a)." is a link to /a; a closing bracket stays if the address opened one. */
function withoutTrailingPunctuation(text: string): string {
  const cut = text.replace(/[.,;:!?…]+$/u, "");
  if (cut.endsWith(")") && !cut.includes("(")) return withoutTrailingPunctuation(cut.slice(0, -1));
  return cut;
}
