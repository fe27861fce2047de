// Keep the files of this page, so that it works without a network after the first visit.
//
// The answers carry the headers that make the page cross-origin isolated, which static hosts cannot send: from the
// second visit on, WebAssembly may use several threads.

const CACHE = "deepfake-detect-{{version}}";
const FILES = {{files}};
const HEADERS = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Resource-Policy": "same-origin",
};

self.addEventListener("install", (event) => event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(FILES))));

self.addEventListener("activate", (event) => event.waitUntil(takeOver()));

self.addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  if (method === "GET" && new URL(url).origin === self.location.origin) event.respondWith(answer(event.request));
});

async function takeOver() {
  const outdated = (await caches.keys()).filter((name) => name.startsWith("deepfake-detect-") && name !== CACHE);
  await Promise.all(outdated.map((name) => caches.delete(name)));
  await self.clients.claim();
}

async function answer(request) {
  const cache = await caches.open(CACHE);
  const kept = await cache.match(request, { ignoreSearch: true });
  if (!kept) return fetch(request); // such as the runtime for WebGPU, without which the page takes WebAssembly
  const headers = new Headers(kept.headers);
  for (const [name, value] of Object.entries(HEADERS)) headers.set(name, value);
  return new Response(kept.body, { status: kept.status, statusText: kept.statusText, headers });
}
