import type { ReactNode } from "react";
import { Icon } from "./icons.tsx";
import { href } from "./route.ts";

/** The top of a view: the way back (on phones), its name, and what else belongs there. */
export function PageHead({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <header className="page-head">
      <a className="ghost square back" href={href({ view: "home" })} aria-label="Back to the list">
        <Icon name="back" />
      </a>
      <div className="page-title">
        <h1>
          <bdi>{title}</bdi>
        </h1>
        {children}
      </div>
    </header>
  );
}
