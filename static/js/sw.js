// The service worker: it keeps one page for when nobody answers, and takes no part in anything else.
// Pages, files and API answers always come from the network; nothing of them is ever stored here.
const CACHE = "offline";
const PAGE = "/offline";
const FILES = ["/static/css/tokens.css", "/static/css/components.css", "/static/css/error.css", "/static/js/theme-init.js", "/static/js/offline-page.js", "/static/vendor/inter-latin.woff2"];
const GATEWAY = [502, 504]; // a proxy answers in place of the web process

addEventListener("install", (event) => {
  const fresh = [PAGE, ...FILES].map((path) => new Request(path, { cache: "reload" }));
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(fresh)).then(() => skipWaiting()));
});

addEventListener("activate", (event) => event.waitUntil(clients.claim()));

addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method !== "GET" || url.origin !== location.origin) return;
  if (request.mode === "navigate") event.respondWith(page(request));
  else if (FILES.includes(url.pathname) && url.search === "") event.respondWith(fetch(request).catch(() => kept(url.pathname)));
});

async function page(request) {
  try {
    const response = await fetch(request);
    return GATEWAY.includes(response.status) ? ((await caches.match(PAGE)) ?? response) : response;
  } catch {
    return kept(PAGE);
  }
}

async function kept(path) {
  return (await caches.match(path, { ignoreVary: true })) ?? Response.error();
}
