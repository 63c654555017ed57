// Walks OTLP batches in protobuf's wire format, and copies them with changes.
#ifndef TIDEGATE_OTLP_H
#define TIDEGATE_OTLP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum wire_type { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

// Bytes that belong to somebody else.
struct slice {
  const uint8_t *at;
  const uint8_t *end;
};

// A field of a message.
struct field {
  uint32_t number;
  enum wire_type type;
  uint64_t varint;      // of a WIRE_VARINT
  struct slice content; // of WIRE_BYTES
  struct slice whole;   // with its tag
};

// Takes the next field off the message. False at its end, or where it is not valid: then `message->at != message->end`.
bool next_field(struct slice *message, struct field *field);

// Bytes that are written. When memory is out, `failed` is set and nothing more is written.
struct buffer {
  uint8_t *start;
  size_t length;
  size_t capacity;
  bool failed;
};

void append(struct buffer *out, const void *bytes, size_t length);
void append_slice(struct buffer *out, struct slice slice);

// Writes a field of bytes.
void append_bytes_field(struct buffer *out, uint32_t number, const void *bytes, size_t length);

// Begins a field that holds a message which is written next, and ends it. What `begin_message` gave belongs to `end_message`.
size_t begin_message(struct buffer *out);
void end_message(struct buffer *out, size_t begin, uint32_t number);

bool slice_is(struct slice slice, const char *text, size_t length);

#endif
