/** A browser's storage in memory: its entries are its own enumerable properties, as in browsers. */
export class FakeStorage implements Storage {
  [name: string]: unknown;
  declare full: boolean;

  constructor() {
    Object.defineProperty(this, "full", { value: false, writable: true, enumerable: false });
  }

  get length(): number {
    return Object.keys(this).length;
  }

  clear(): void {
    for (const key of Object.keys(this)) this.removeItem(key);
  }

  key(index: number): string | null {
    return Object.keys(this)[index] ?? null;
  }

  getItem(key: string): string | null {
    return Object.hasOwn(this, key) ? String(this[key]) : null;
  }

  setItem(key: string, value: string): void {
    if (this.full) throw new DOMException("full", "QuotaExceededError");
    this[key] = value;
  }

  removeItem(key: string): void {
    Reflect.deleteProperty(this, key);
  }
}
