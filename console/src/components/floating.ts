/** Where menus and tooltips are put: within the open dialog or the page, so that they belong to a landmark as what they hang on does. */
export function floatingPlace(): HTMLElement | null {
  return document.querySelector<HTMLElement>("[role=dialog][data-modal]") ?? document.querySelector("main");
}
