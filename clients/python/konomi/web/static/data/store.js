// IndexedDB in a few words: what must survive the browser, committed before anyone is told that it did.

const NAME = "konomi";
let opening = null;

function open() {
  opening ??= new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore("outbox", { keyPath: "order", autoIncrement: true });
      request.result.createObjectStore("kept");
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  return opening;
}

async function run(store, mode, work) {
  const database = await open();
  return new Promise((resolve, reject) => {
    const transaction = database.transaction(store, mode, { durability: "strict" });
    const request = work(transaction.objectStore(store));
    transaction.oncomplete = () => resolve(request?.result);
    transaction.onerror = () => reject(transaction.error);
    transaction.onabort = () => reject(transaction.error);
  });
}

export const add = (entry) => run("outbox", "readwrite", (store) => store.add(entry));
export const put = (entry) => run("outbox", "readwrite", (store) => store.put(entry));
export const all = () => run("outbox", "readonly", (store) => store.getAll());
export const remove = (order) => run("outbox", "readwrite", (store) => store.delete(order));
export const keep = (name, value) => run("kept", "readwrite", (store) => store.put(value, name));
export const kept = (name) => run("kept", "readonly", (store) => store.get(name));
