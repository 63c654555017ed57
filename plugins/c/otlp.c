#include "otlp.h"

#include <stdlib.h>
#include <string.h>

static bool take_varint(struct slice *from, uint64_t *value) {
  *value = 0;
  for (unsigned shift = 0; shift < 64 && from->at < from->end; shift += 7) {
    uint8_t byte = *from->at++;
    *value |= (uint64_t)(byte & 127) << shift;
    if (byte < 128) return true;
  }
  return false;
}

static bool skip(struct slice *from, uint64_t length) {
  if (length > (uint64_t)(from->end - from->at)) return false;
  from->at += length;
  return true;
}

bool next_field(struct slice *message, struct field *field) {
  struct slice rest = *message;
  uint64_t tag = 0;
  if (rest.at >= rest.end || !take_varint(&rest, &tag)) return false;
  field->number = (uint32_t)(tag >> 3);
  field->type = (enum wire_type)(tag & 7);
  field->varint = 0;
  field->content.at = field->content.end = rest.at;
  switch (field->type) {
  case WIRE_VARINT:
    if (!take_varint(&rest, &field->varint)) return false;
    break;
  case WIRE_FIXED64:
    if (!skip(&rest, 8)) return false;
    break;
  case WIRE_FIXED32:
    if (!skip(&rest, 4)) return false;
    break;
  case WIRE_BYTES: {
    uint64_t length = 0;
    if (!take_varint(&rest, &length)) return false;
    field->content.at = rest.at;
    if (!skip(&rest, length)) return false;
    field->content.end = rest.at;
    break;
  }
  default:
    return false;
  }
  field->whole.at = message->at;
  field->whole.end = rest.at;
  message->at = rest.at;
  return true;
}

static bool reserve(struct buffer *out, size_t length) {
  if (out->failed) return false;
  if (length <= out->capacity - out->length) return true;
  size_t capacity = out->capacity < 1024 ? 1024 : out->capacity;
  while (capacity - out->length < length) {
    if (capacity > SIZE_MAX / 2) {
      out->failed = true;
      return false;
    }
    capacity *= 2;
  }
  uint8_t *start = realloc(out->start, capacity);
  if (start == NULL) {
    out->failed = true;
    return false;
  }
  out->start = start;
  out->capacity = capacity;
  return true;
}

void append(struct buffer *out, const void *bytes, size_t length) {
  if (length == 0 || !reserve(out, length)) return;
  memcpy(out->start + out->length, bytes, length);
  out->length += length;
}

void append_slice(struct buffer *out, struct slice slice) { append(out, slice.at, (size_t)(slice.end - slice.at)); }

static size_t put_varint(uint8_t *to, uint64_t value) {
  size_t length = 0;
  while (value > 127) {
    to[length++] = (uint8_t)(value | 128);
    value >>= 7;
  }
  to[length++] = (uint8_t)value;
  return length;
}

// A tag and a length: 5 bytes each at most.
enum { HEAD_MAX = 10 };

static size_t put_head(uint8_t *head, uint32_t number, size_t length) {
  size_t tag = put_varint(head, (uint64_t)number << 3 | WIRE_BYTES);
  return tag + put_varint(head + tag, length);
}

void append_bytes_field(struct buffer *out, uint32_t number, const void *bytes, size_t length) {
  uint8_t head[HEAD_MAX];
  append(out, head, put_head(head, number, length));
  append(out, bytes, length);
}

size_t begin_message(struct buffer *out) {
  static const uint8_t room[HEAD_MAX];
  append(out, room, HEAD_MAX);
  return out->length;
}

void end_message(struct buffer *out, size_t begin, uint32_t number) {
  if (out->failed) return;
  uint8_t head[HEAD_MAX];
  size_t length = out->length - begin;
  size_t head_length = put_head(head, number, length);
  uint8_t *start = out->start + begin - HEAD_MAX;
  memcpy(start, head, head_length);
  memmove(start + head_length, out->start + begin, length);
  out->length = begin - HEAD_MAX + head_length + length;
}

bool slice_is(struct slice slice, const char *text, size_t length) {
  return (size_t)(slice.end - slice.at) == length && memcmp(slice.at, text, length) == 0;
}
