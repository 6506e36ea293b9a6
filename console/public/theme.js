// Runs before the first paint, so that a chosen theme never flashes the other one. src/hooks/theme.ts stores the choice.
const theme = localStorage.getItem("fieldgate.theme");
if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
