// Offer the menu entry, and open the verdict of the picture that was clicked on.

const ENTRY = { id: "check", title: "Is this face real?", contexts: ["image"] };

chrome.runtime.onInstalled.addListener(() => chrome.contextMenus.removeAll(() => chrome.contextMenus.create(ENTRY)));

chrome.contextMenus.onClicked.addListener(async ({ menuItemId, srcUrl }) => {
  if (menuItemId !== ENTRY.id || !srcUrl) return;
  const key = crypto.randomUUID();
  await chrome.storage.session.set({ [key]: srcUrl }); // a data URL is too long for an address
  await chrome.windows.create({ url: `verdict.html#${key}`, type: "popup", width: 480, height: 760 });
});
