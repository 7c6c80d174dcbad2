// The key of the session: beside the cookie each request has to name it. The browser sends the
// cookie to every port of this host, the key to nobody: it stays in this tab, and in the others
// of this page, which ask each other for it.

const NAME = "session-key";
const WAIT = 300;
const others = new BroadcastChannel(NAME);

others.onmessage = ({ data }) => {
  if (data.key) sessionStorage.setItem(NAME, data.key);
  else if (current()) others.postMessage({ key: current() });
};

const current = () => sessionStorage.getItem(NAME);

export function keep(key) {
  sessionStorage.setItem(NAME, key);
  others.postMessage({ key });
}

export const keyHeader = () => (current() ? { "X-Egress-Session-Key": current() } : {});

// Whether this tab has a key, or gets one from another tab.
export async function hasKey() {
  if (current()) return true;
  return new Promise((resolve) => {
    others.addEventListener("message", ({ data }) => data.key && resolve(true));
    setTimeout(() => resolve(false), WAIT);
    others.postMessage({});
  });
}
