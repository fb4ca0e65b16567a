import type { Memory } from "../../session/memory.ts";
import { PageHead } from "../PageHead.tsx";
import { SECTIONS, type Section, href } from "../route.ts";
import { Appearance } from "./Appearance.tsx";
import { AutoReplySettings } from "./AutoReplySettings.tsx";
import { ScriptSettings } from "./ScriptSettings.tsx";

const NAMES: Record<Section, string> = {
  appearance: "Appearance",
  "auto-reply": "Auto-reply",
  outgoing: "Outgoing script",
  incoming: "Incoming script",
};

export function Settings({ section, memory }: { section: Section; memory: Memory }) {
  return (
    <>
      <PageHead title="Settings" />
      <nav className="tabs" aria-label="Settings">
        {SECTIONS.map((each) => (
          <a
            key={each}
            href={href({ view: "settings", section: each })}
            aria-current={each === section ? "page" : undefined}
          >
            {NAMES[each]}
          </a>
        ))}
      </nav>
      <section className="settings" aria-label={NAMES[section]}>
        <SectionView section={section} memory={memory} />
      </section>
    </>
  );
}

function SectionView({ section, memory }: { section: Section; memory: Memory }) {
  switch (section) {
    case "appearance":
      return <Appearance memory={memory} />;
    case "auto-reply":
      return <AutoReplySettings />;
    case "outgoing":
    case "incoming":
      return <ScriptSettings key={section} direction={section} />;
  }
}
