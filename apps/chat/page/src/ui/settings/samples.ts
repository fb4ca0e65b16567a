/**
 * What a script looks like: the start for someone who has none.
 * None for Jolie: how a program reads its input there depends on the packages of the machine it runs on.
 */
import type { Direction, Language } from "../../model/types.ts";

const SAMPLES: Record<Direction, Record<Language, string>> = {
  outgoing: {
    python: `def handle(message):
    return {"messageBody": message["messageBody"].strip()}
`,
    lua: `function handle(message)
  return { messageBody = message.messageBody:match("^%s*(.-)%s*$") }
end
`,
    jolie: "",
  },
  incoming: {
    python: `def handle(message):
    if "urgent" in message["messageBody"].lower():
        reply = [{"to": message["senderID"], "message": "On my way."}]
        return {"action": "forward", "reply": reply}
    return {"action": "forward", "reply": []}
`,
    lua: `function handle(message)
  local reply = {}
  if message.messageBody:lower():find("urgent") then
    reply = { { to = message.senderID, message = "On my way." } }
  end
  return { action = "forward", reply = reply }
end
`,
    jolie: "",
  },
};

export function sample(direction: Direction, language: Language): string {
  return SAMPLES[direction][language];
}

export function isSample(direction: Direction, source: string): boolean {
  return Object.values(SAMPLES[direction]).includes(source);
}
