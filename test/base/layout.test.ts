/**
 * The layout table is what goes over the wire and into memory: golden here, field by field, so that
 * a change is a decision and not an accident.
 */

import { describe, expect, test } from "vitest";
import * as layout from "../../src/base/layout.ts";

describe("layout", () => {
  test("golden table", () => {
    expect(layout).toMatchInlineSnapshot(`
      {
        "BUFFERMAP_BITS_BYTES": 28,
        "BUFFERMAP_HEADER_BYTES": 32,
        "BUFFERMAP_RUN": 24,
        "BUFFERMAP_START": 16,
        "BUFFERMAP_TAG": 8,
        "CREDIT_BYTES": 24,
        "CREDIT_LIMIT": 16,
        "CREDIT_TAG": 8,
        "DATA_CHECKED_FROM": 12,
        "DATA_CHECKSUM": 8,
        "DATA_CREATED_US": 32,
        "DATA_FLAGS": 12,
        "DATA_FLAG_END": 1,
        "DATA_HEADER_BYTES": 40,
        "DATA_INDEX": 24,
        "DATA_RECORD_COUNT": 14,
        "DATA_TAG": 16,
        "DATUM_FLAGS": 2,
        "DATUM_FRAME_COUNT": 24,
        "DATUM_FRAME_ENTRY_BYTES": 8,
        "DATUM_FRAME_HEADER_BYTES": 40,
        "DATUM_FRAME_OFFSET": 32,
        "DATUM_FRAME_RESERVED": 36,
        "DATUM_FRAME_SEQUENCE": 8,
        "DATUM_FRAME_TIMESTAMP": 16,
        "DATUM_FRAME_TOTAL_BYTES": 28,
        "DATUM_HEADER_BYTES": 12,
        "DATUM_PAYLOAD_BYTES": 4,
        "DATUM_TIMESTAMP": 8,
        "DECLARATION_BASE_SEQUENCE": 16,
        "DECLARATION_BYTES": 32,
        "DECLARATION_CONTENT_TYPE_BYTES": 6,
        "DECLARATION_ENTRIES": 12,
        "DECLARATION_ID_BYTES": 4,
        "DECLARATION_ID_OFFSET": 0,
        "DECLARATION_LAST_SEQUENCE": 24,
        "DECLARATION_SOURCE_NUMBER": 8,
        "ENTRY_BYTES": 32,
        "ENTRY_DECLARATION": 12,
        "ENTRY_FLAGS": 10,
        "ENTRY_KIND": 8,
        "ENTRY_LENGTH": 4,
        "ENTRY_OFFSET": 0,
        "ENTRY_SEQUENCE": 16,
        "ENTRY_SOURCE_NUMBER": 9,
        "ENTRY_TIMESTAMP": 24,
        "FRAME_FLAGS": 7,
        "FRAME_HEADER_BYTES": 8,
        "FRAME_LENGTH": 0,
        "FRAME_MAGIC": 182,
        "FRAME_MAGIC_AT": 4,
        "FRAME_TYPE": 6,
        "FRAME_TYPES": {
          "ACCEPT": 11,
          "ACCEPTED": 35,
          "BUFFERMAP": 4,
          "BUSY": 14,
          "BYE": 15,
          "CANCEL": 9,
          "CREDIT": 7,
          "DATA": 1,
          "DATUM": 34,
          "ERROR": 16,
          "GET": 6,
          "GONE": 8,
          "HAVE": 5,
          "HELD": 36,
          "HELLO": 3,
          "NOTIFY": 12,
          "PARTNER": 10,
          "PING": 17,
          "PONG": 18,
          "REFRESH": 13,
          "REGISTER": 32,
          "REGISTERED": 33,
          "SEAL": 2,
          "TERMINATE": 37,
        },
        "FRAME_VERSION": 1,
        "FRAME_VERSION_AT": 5,
        "FRAME_VERSION_MIN": 1,
        "GET_FLAG_PATIENT": 1,
        "HAVE_FLAG_HELD_BACK": 1,
        "HAVE_READERS_MASK": 65280,
        "HAVE_READERS_SHIFT": 8,
        "MESSAGE_BODY": 8,
        "OVERLAY_TAG_BYTES": 8,
        "PICKER_ANY": 16,
        "PICKER_CANDIDATES": 8,
        "PICKER_CELLS": 12,
        "PICKER_CELL_BYTES": 64,
        "PICKER_CELL_PLANES": 4,
        "PICKER_CLASSES": 6,
        "PICKER_GROUPS": 128,
        "PICKER_GROUP_BYTES": 64,
        "PICKER_HELD": 0,
        "PICKER_KIND_ANY": 6,
        "PICKER_MANY": 32,
        "PICKER_PRESENCE": 56,
        "PICKER_RESERVED": 48,
        "PICKER_TAKEN": 40,
        "PICKER_TOP": 64,
        "PICKER_UPPER": 20,
        "PICKER_UPPER_BYTES": 72,
        "PICKER_UPPER_PLANES": 9,
        "PICKER_WORDS": 4,
        "PING_BYTES": 16,
        "PING_TOKEN": 8,
        "RANGES_COUNT": 24,
        "RANGES_FLAGS": 28,
        "RANGES_HEADER_BYTES": 32,
        "RANGES_START": 16,
        "RANGES_TAG": 8,
        "RANGE_BYTES": 12,
        "RECORD_KIND": 0,
        "RECORD_KIND_DATUM": 2,
        "RECORD_KIND_SLICE": 3,
        "RECORD_KIND_SOURCE": 1,
        "RECORD_KIND_SOURCE_END": 4,
        "RECORD_SOURCE_NUMBER": 1,
        "SEAL_COUNT": 24,
        "SEAL_COUNT_MAX": 64,
        "SEAL_FIRST_INDEX": 16,
        "SEAL_HEADER_BYTES": 32,
        "SEAL_LEAF_BYTES": 32,
        "SEAL_LEAF_BYTES_AT": 26,
        "SEAL_SIGNATURE_BYTES_AT": 27,
        "SEAL_TAG": 8,
        "SLICE_FLAG_FIRST": 1,
        "SLICE_FLAG_LAST": 2,
        "SLICE_HEADER_BYTES": 20,
        "SLICE_OFFSET": 12,
        "SLICE_TOTAL_BYTES": 16,
        "SOURCE_BASE_SEQUENCE": 8,
        "SOURCE_BASE_TIMESTAMP": 16,
        "SOURCE_CONTENT_TYPE_BYTES_AT": 3,
        "SOURCE_END_BYTES": 16,
        "SOURCE_END_LAST_SEQUENCE": 8,
        "SOURCE_HEADER_BYTES": 24,
        "SOURCE_ID_BYTES_AT": 2,
        "SOURCE_NUMBERING": 4,
        "SPLIT_COUNT_WRONG": -5,
        "SPLIT_KIND_UNKNOWN": -2,
        "SPLIT_LENGTH_WRONG": -6,
        "SPLIT_NUMBER_RANGE": -7,
        "SPLIT_RESERVED_BITS": -4,
        "SPLIT_SOURCE_UNDECLARED": -3,
        "SPLIT_TRUNCATED": -1,
      }
    `);
  });

  test("fields lie one behind the other, without holes that no reserved field explains", () => {
    const fields = (...list: readonly (readonly [number, number])[]): void => {
      let end = list[0]?.[0] ?? 0;
      for (const [at, bytes] of list) {
        expect(at).toBe(end);
        end = at + bytes;
      }
    };
    fields(
      [layout.FRAME_LENGTH, 4],
      [layout.FRAME_MAGIC_AT, 1],
      [layout.FRAME_VERSION_AT, 1],
      [layout.FRAME_TYPE, 1],
      [layout.FRAME_FLAGS, 1],
      [layout.FRAME_HEADER_BYTES, 0],
    );
    fields(
      [layout.DATA_CHECKSUM, 4],
      [layout.DATA_FLAGS, 2],
      [layout.DATA_RECORD_COUNT, 2],
      [layout.DATA_TAG, layout.OVERLAY_TAG_BYTES],
      [layout.DATA_INDEX, 8],
      [layout.DATA_CREATED_US, 8],
      [layout.DATA_HEADER_BYTES, 0],
    );
    fields(
      [layout.SEAL_TAG, layout.OVERLAY_TAG_BYTES],
      [layout.SEAL_FIRST_INDEX, 8],
      [layout.SEAL_COUNT, 2],
      [layout.SEAL_LEAF_BYTES_AT, 1],
      [layout.SEAL_SIGNATURE_BYTES_AT, 1],
      [28, 4],
      [layout.SEAL_HEADER_BYTES, 0],
    );
    fields(
      [layout.BUFFERMAP_TAG, layout.OVERLAY_TAG_BYTES],
      [layout.BUFFERMAP_START, 8],
      [layout.BUFFERMAP_RUN, 4],
      [layout.BUFFERMAP_BITS_BYTES, 4],
      [layout.BUFFERMAP_HEADER_BYTES, 0],
    );
    fields(
      [layout.RANGES_TAG, layout.OVERLAY_TAG_BYTES],
      [layout.RANGES_START, 8],
      [layout.RANGES_COUNT, 4],
      [28, 4],
      [layout.RANGES_HEADER_BYTES, 0],
    );
    fields(
      [layout.CREDIT_TAG, layout.OVERLAY_TAG_BYTES],
      [layout.CREDIT_LIMIT, 8],
      [layout.CREDIT_BYTES, 0],
    );
  });

  test("the checksum covers everything behind it", () => {
    expect(layout.DATA_CHECKED_FROM).toBe(layout.DATA_CHECKSUM + 4);
  });

  test("all fixed frames carry the overlay tag at one place, DATA at its own", () => {
    const tags = [layout.SEAL_TAG, layout.BUFFERMAP_TAG, layout.RANGES_TAG, layout.CREDIT_TAG];
    expect(new Set(tags)).toEqual(new Set([layout.FRAME_HEADER_BYTES]));
    expect(layout.DATA_TAG % 8).toBe(0);
  });

  test("frame types are distinct, peer links and data source links apart", () => {
    const types = Object.entries(layout.FRAME_TYPES);
    expect(new Set(types.map(([, type]) => type)).size).toBe(types.length);
    const ofSources = ["REGISTER", "REGISTERED", "DATUM", "ACCEPTED", "HELD", "TERMINATE"];
    for (const [name, type] of types) {
      const [low, high] = ofSources.includes(name) ? [0x20, 0x2f] : [0x01, 0x1f];
      expect(type >= low && type <= high, name).toBe(true);
    }
  });

  test("index rows are whole 8-byte words, their numbers aligned", () => {
    expect(layout.ENTRY_BYTES % 8).toBe(0);
    expect(layout.ENTRY_SEQUENCE % 8).toBe(0);
    expect(layout.ENTRY_TIMESTAMP % 8).toBe(0);
    expect(layout.DECLARATION_BYTES % 8).toBe(0);
    expect(layout.DECLARATION_BASE_SEQUENCE % 8).toBe(0);
    expect(layout.DECLARATION_LAST_SEQUENCE % 8).toBe(0);
  });

  test("reasons why a fragment can't be split are distinct and negative", () => {
    const reasons = Object.entries(layout)
      .filter(([name]) => name.startsWith("SPLIT_"))
      .map(([, value]) => value as number);
    expect(reasons.length).toBeGreaterThan(5);
    expect(new Set(reasons).size).toBe(reasons.length);
    for (const reason of reasons) expect(reason).toBeLessThan(0);
  });
});
