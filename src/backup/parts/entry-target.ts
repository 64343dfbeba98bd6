/** Where the entries of a backup's parts go. */

/** Where the entries of parts go. Appended bytes are copied; a promise means: wait. */
export interface EntryTarget {
  append(bytes: Uint8Array): void | Promise<void>
}

/** Chooses where an entry goes. */
export interface EntryPlacer {
  /**
   * @param name the entry's name; undefined for a directory
   * @param bytes of the whole entry
   */
  place(name: string | undefined, bytes: number): EntryTarget | Promise<EntryTarget>
}
