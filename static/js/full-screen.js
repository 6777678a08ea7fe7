// The whole screen for the page, where the browser allows it.
export function bindFullScreen(button) {
  const root = document.documentElement;
  button.hidden = !document.fullscreenEnabled;
  const toggle = () => {
    if (!document.fullscreenEnabled) return;
    const change = document.fullscreenElement ? document.exitFullscreen() : root.requestFullscreen();
    change.catch(() => button.blur()); // refused, as without a click or key of the user: the page stays as it is
  };
  button.addEventListener("click", toggle);
  document.addEventListener("fullscreenchange", () => button.setAttribute("aria-pressed", String(document.fullscreenElement !== null)));
  return toggle;
}
