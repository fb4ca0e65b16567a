import { defineConfig } from "vite";

const services = process.env.CHAT_URL ?? "http://127.0.0.1:8080";
const paths = ["/auth-ms", "/users-ms", "/notifications-ms", "/messages-ms", "/autoreply-ms", "/scripts-ms", "/web-ms"];

export default defineConfig({
  build: {
    target: "es2023",
    // A data: address would be refused by the page's content security policy.
    assetsInlineLimit: 0,
  },
  server: {
    proxy: {
      ...Object.fromEntries(paths.map((path) => [path, services])),
      "/ws": { target: services, ws: true },
    },
  },
});
