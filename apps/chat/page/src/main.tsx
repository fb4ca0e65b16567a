/** Starts the page. */
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { Memory } from "./session/memory.ts";
import { App } from "./ui/App.tsx";
import { applyTheme } from "./ui/theme.ts";
import "./styles/tokens.css";
import "./styles/base.css";
import "./styles/controls.css";
import "./styles/layout.css";
import "./styles/conversation.css";
import "./styles/settings.css";

const memory = new Memory(localStorage);
applyTheme(memory.theme);

const root = document.getElementById("root");
if (!root) throw new Error("index.html has no #root");
createRoot(root).render(
  <StrictMode>
    <App memory={memory} />
  </StrictMode>,
);
