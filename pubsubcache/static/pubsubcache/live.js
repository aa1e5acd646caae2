// Keeps a page current. The server says when something changed that the page shows; then the page is fetched again from
// its own address, and what differs in the elements with an id and the attribute data-psc-live is changed in place. So
// focus, selections, open <details>, checked boxes and scroll positions stay.

const INTERVAL = 2000; // milliseconds between two fetches of the page
const POLL = 5000; // milliseconds between two questions to a server that does not stream
const PATIENCE = 8000; // milliseconds until the first event of a stream
const STREAM_AGAIN = 12; // questions after which a stream is tried again
const LIVE = "[data-psc-live][id]";
// The reader's own entries, and what other scripts change.
const OWN = "select, textarea, .actions, [data-psc-keep]";

const notices = [...document.querySelectorAll("[data-psc-topics]")];
const topics = new Set(notices.flatMap((notice) => notice.dataset.pscTopics.split(" ")));
const address = `${notices[0]?.dataset.pscStream}?${new URLSearchParams([...topics].map((topic) => ["topic", topic]))}`;
const since = document.querySelector("[data-psc-since]")?.dataset.pscSince;

let version = null; // of what the page shows
let source = null; // the stream
let asking = 0; // timer of the next question, or of the end of patience
let asked = 0; // questions since a stream was tried
let fetching = null; // the controller of the running fetch
let waiting = 0; // timer of the next fetch
let earliest = 0; // when the page may be fetched again
let ended = false;

function begin() {
    if (ended || document.hidden || source) {
        return;
    }
    source = new EventSource(address);
    source.addEventListener("version", (event) => {
        clearTimeout(asking);
        notice(event.data);
    });
    source.addEventListener("error", () => {
        if (source?.readyState === EventSource.CLOSED) {
            askInstead();
        }
    });
    asking = setTimeout(askInstead, PATIENCE);
}

function pause() {
    source?.close();
    source = null;
    clearTimeout(asking);
    clearTimeout(waiting);
    waiting = 0;
    fetching?.abort();
}

function end() {
    pause();
    ended = true;
    notices[0].hidden = false;
}

function askInstead() {
    source?.close();
    source = null;
    asked = 0;
    ask();
}

async function ask() {
    clearTimeout(asking);
    if (asked++ >= STREAM_AGAIN) {
        begin();
        return;
    }
    asking = setTimeout(ask, POLL);
    try {
        const response = await fetch(`${address}&poll=${version ?? ""}`);
        if (response.ok && !response.redirected) {
            notice((await response.json()).version);
        } else if (response.status < 500) {
            end();
        }
    } catch {
        // The server cannot be reached now.
    }
}

function notice(current) {
    if (current !== version && !ended && !document.hidden) {
        refresh(current);
    }
}

function refresh(current) {
    clearTimeout(waiting);
    waiting = 0;
    const delay = earliest - Date.now();
    if (fetching || delay > 0) {
        waiting = setTimeout(refresh, Math.max(delay, 100), current);
        return;
    }
    renew(current);
}

async function renew(current) {
    fetching = new AbortController();
    const signal = fetching.signal;
    const began = Date.now();
    try {
        const headers = since === undefined ? {} : { "X-Pubsubcache-Since": since };
        const response = await fetch(location.href, { headers, cache: "no-store", signal });
        if (response.redirected || (!response.ok && response.status < 500)) {
            end(); // logged out, not permitted any more, or the object is gone
        } else if (response.ok) {
            show(new DOMParser().parseFromString(await response.text(), "text/html"));
            version = current;
        }
    } catch {
        // The server cannot be reached now, or the page was hidden or left.
    }
    fetching = null;
    if (version !== current && !signal.aborted && !waiting) {
        waiting = setTimeout(refresh, POLL, current);
    }
    // A slow page is fetched less often.
    earliest = Date.now() + Math.max(INTERVAL, 10 * (Date.now() - began));
}

function show(fresh) {
    for (const element of document.querySelectorAll(LIVE)) {
        if (element.isConnected && !element.parentElement.closest(LIVE)) {
            const twin = fresh.getElementById(element.id);
            if (twin) {
                update(element, twin);
            } else {
                element.replaceChildren();
            }
        }
    }
    document.dispatchEvent(new CustomEvent("psc:live"));
}

// Makes `element` equal to `twin`, an element with the same name.
function update(element, twin) {
    if (element.matches(OWN) || element.isEqualNode(twin)) {
        return;
    }
    const isSelected = element.matches("tr.selected"); // by the script of the list
    const isEntry = element.matches("input:not([type=hidden])");
    const kept = isEntry ? ["value", "checked"] : element.matches("details") ? ["open"] : [];
    for (const { name } of [...element.attributes]) {
        if (!twin.hasAttribute(name) && !kept.includes(name)) {
            element.removeAttribute(name);
        }
    }
    for (const { name, value } of twin.attributes) {
        if (element.getAttribute(name) !== value && !kept.includes(name)) {
            element.setAttribute(name, value);
        }
    }
    if (isSelected) {
        element.classList.add("selected");
    }
    updateChildren(element, twin);
}

function updateChildren(element, twin) {
    const keyed = new Map();
    for (const child of element.children) {
        const key = keyOf(child);
        if (key) {
            keyed.set(key, child);
        }
    }
    let next = element.firstChild;
    for (const fresh of [...twin.childNodes]) {
        const key = keyOf(fresh);
        // An element with a key only becomes the one with the same key.
        const child = key ? keyed.get(key) : next && !keyOf(next) ? next : null;
        keyed.delete(key);
        if (!child || child.nodeName !== fresh.nodeName) {
            element.insertBefore(document.importNode(fresh, true), next);
            continue;
        }
        if (child === next) {
            next = next.nextSibling;
        } else {
            element.insertBefore(child, next);
        }
        if (child.nodeType === Node.ELEMENT_NODE) {
            update(child, fresh);
        } else if (child.nodeValue !== fresh.nodeValue) {
            child.nodeValue = fresh.nodeValue;
        }
    }
    while (next) {
        const rest = next.nextSibling;
        next.remove();
        next = rest;
    }
}

// Identifies an element among its siblings: by its id, or the row of a list by its object.
function keyOf(node) {
    if (node.nodeType !== Node.ELEMENT_NODE) {
        return "";
    }
    return node.id || (node.matches("tr") ? node.querySelector("input.action-select")?.value ?? rowOf(node) : "");
}

function rowOf(row) {
    return row.querySelector("th a[href]")?.getAttribute("href") ?? "";
}

if (notices.length) {
    document.addEventListener("visibilitychange", () => (document.hidden ? pause() : begin()));
    window.addEventListener("pagehide", pause);
    window.addEventListener("pageshow", begin);
    // The next page shows the messages of the site, which a fetch of this one would take.
    document.addEventListener("submit", () => {
        pause();
        setTimeout(begin, POLL); // if this page stays
    });
    begin();
}
