import { useState } from "react";
import type { Memory, Theme } from "../../session/memory.ts";
import { applyTheme } from "../theme.ts";

const THEMES: Record<Theme, string> = { system: "Like the system", light: "Light", dark: "Dark" };

export function Appearance({ memory }: { memory: Memory }) {
  const [theme, setTheme] = useState(memory.theme);
  const choose = (next: Theme) => {
    memory.keepTheme(next);
    applyTheme(next);
    setTheme(next);
  };
  return (
    <fieldset className="choices">
      <legend>Colours</legend>
      {(Object.keys(THEMES) as Theme[]).map((each) => (
        <label key={each}>
          <input
            type="radio"
            name="theme"
            checked={theme === each}
            onChange={() => {
              choose(each);
            }}
          />
          {THEMES[each]}
        </label>
      ))}
    </fieldset>
  );
}
