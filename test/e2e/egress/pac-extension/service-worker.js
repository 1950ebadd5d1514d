// Puts a PAC file in force, then makes one request, which fails when its server closes the connection.
globalThis.requestBy = async (file, url) => {
  const pacScript = { data: file, mandatory: false };
  await chrome.proxy.settings.set({ scope: 'regular', value: { mode: 'pac_script', pacScript } });
  await fetch(url, { cache: 'no-store' }).catch(() => {});
};
