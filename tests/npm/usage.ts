// Compiled, never run: what the exported types allow, and what they must not. ./events is the export of the shipped catalogue.
import type { AnyEvent, DomainEvent, EventByTopic, OrdersCreated, PaymentsSucceeded, TopicName } from "./events";

interface Order {
  orderId: string;
}

export function nameOf(event: OrdersCreated<Order>): string {
  const topic: "lomash.orders.created" = event.eventType;
  return topic + event.payload.orderId;
}

export function tellApart(event: AnyEvent<Order>): DomainEvent<Order> {
  switch (event.eventType) {
    case "lomash.orders.created": {
      const order: OrdersCreated<Order> = event;
      return order;
    }
    case "lomash.payments.succeeded": {
      const payment: PaymentsSucceeded<Order> = event;
      return payment;
    }
    default:
      return event;
  }
}

export const topic: TopicName = "lomash.content.blog.published";
export const published: EventByTopic<Order>["lomash.content.blog.published"] = {
  eventId: "0198c6f2-7d1e-7a44-9b5f-3e6a0c1d2b4f",
  eventType: "lomash.content.blog.published",
  timestamp: "2026-02-01T09:30:00.123Z",
  version: "1.0",
  payload: { orderId: "10248" },
};

// @ts-expect-error no such topic
export const misspelt: TopicName = "lomash.orders.create";
// @ts-expect-error an event of another topic
export const other: OrdersCreated<Order> = published;
// @ts-expect-error what a payload is has to be said
export const unknownPayload = (event: OrdersCreated): string => event.payload.orderId;
