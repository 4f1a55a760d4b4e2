// Runs before the page is painted, so that a dark page never flashes white.  Storage may be forbidden (file://, private mode).
"use strict";
(function () {
  let theme = null;
  try { theme = window.localStorage.getItem("pl-theme"); } catch (error) { /* no storage: follow the system */ }
  if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
})();
