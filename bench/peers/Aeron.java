// Aeron.java: Aeron IPC's two sides, run by peers_aeron.c: java -cp AERON_JAR Aeron.java ping|pong FOLDER CPU N_TRIPS N_EVENTS
//
//   driver   a media driver in ping's process; its threads sleep for up to 0.1 ms between two looks. They move no event, but tell how far a
//            sender may go
//   warm     WARM round trips and as many events as are counted, so that the compiler has seen both loops
//   trip     ping offers an event, pong offers the same bytes back, both poll without a pause
//   stream   ping offers as fast as it can and tries again when the stream is full; pong takes, compares each byte, and tells its rate
//
// Each writes what it has found on its output: a name, a tab, numbers. Anything that is not the event that was due ends it with exit code 1.
import io.aeron.Aeron.Context;
import io.aeron.ExclusivePublication;
import io.aeron.Subscription;
import io.aeron.driver.MediaDriver;
import io.aeron.driver.ThreadingMode;
import io.aeron.logbuffer.FragmentHandler;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import org.agrona.concurrent.BackoffIdleStrategy;
import org.agrona.concurrent.UnsafeBuffer;

class Aeron {
    static final int WARM = 100_000, POLL = 256, SEQ_AT = 14, DIGITS = 16;
    static final String CHANNEL = "aeron:ipc?term-length=8m"; // half of it may be sent between two looks of the driver

    /** As payload_make() and payload_next() of own_bus.c. */
    static final class Payload {
        final byte[] text;
        final UnsafeBuffer buffer;

        Payload(int len) {
            text = new byte[len];
            Arrays.fill(text, (byte) 'x');
            byte[] head = "{\"p\":0,\"seq\":\"0000000000000000\",\"at\":\"0000000000000000\",\"x\":\"".getBytes();
            System.arraycopy(head, 0, text, 0, head.length);
            text[len - 2] = '"';
            text[len - 1] = '}';
            buffer = new UnsafeBuffer(text);
        }

        void next() {
            int at = SEQ_AT + DIGITS - 1;
            while (text[at] == '9')
                text[at--] = '0';
            text[at]++;
        }
    }

    final ExclusivePublication publication;
    final Subscription subscription;
    final byte[] found = new byte[512];
    Payload due;
    long taken;
    final FragmentHandler take = (buffer, offset, length, header) -> {
        buffer.getBytes(offset, found, 0, length);
        due.next();
        taken++;
        if (!Arrays.equals(found, 0, length, due.text, 0, due.text.length))
            throw new IllegalStateException("another event than was due: " + new String(found, 0, length));
    };

    Aeron(io.aeron.Aeron client, int writes, int reads) throws InterruptedException {
        publication = client.addExclusivePublication(CHANNEL, writes);
        subscription = client.addSubscription(CHANNEL, reads);
        while (!publication.isConnected() || !subscription.isConnected())
            Thread.sleep(1);
    }

    void send(Payload payload) {
        for (long rc; (rc = publication.offer(payload.buffer, 0, payload.text.length)) < 0; Thread.onSpinWait())
            if (rc != ExclusivePublication.BACK_PRESSURED && rc != ExclusivePublication.ADMIN_ACTION)
                throw new IllegalStateException("offer: " + rc);
    }

    void receive(int limit) {
        while (subscription.poll(take, limit) == 0)
            Thread.onSpinWait();
    }

    void ping(int len, int trips, int events) {
        Payload payload = new Payload(len);
        long[] ns = new long[trips];
        due = new Payload(len);
        for (int i = -WARM; i < trips; i++) {
            payload.next();
            long sent = System.nanoTime();
            send(payload);
            receive(1);
            if (i >= 0)
                ns[i] = (System.nanoTime() - sent) / 2;
        }
        for (int i = 0; i < 2 * events; i++) {
            payload.next();
            send(payload);
        }
        receive(1); // pong has taken all
        StringBuilder line = new StringBuilder("trip " + len + "\t");
        for (long one : ns)
            line.append(one).append(' ');
        System.out.println(line);
    }

    void pong(int len, int trips, int events) {
        due = new Payload(len);
        for (int i = -WARM; i < trips; i++) {
            receive(1);
            send(due);
        }
        Payload answer = new Payload(len);
        System.arraycopy(due.text, 0, answer.text, 0, len);
        for (long until = taken + events; taken < until;)
            receive(POLL);
        long since = System.nanoTime(), before = taken;
        for (long until = WARM + trips + 2L * events; taken < until;)
            receive(POLL);
        System.out.println("stream " + len + "\t" + (taken - before) * 1_000_000_000L / (System.nanoTime() - since));
        if (subscription.poll(take, 1) != 0)
            throw new IllegalStateException("more events than were sent");
        taken = 0;
        answer.next();
        send(answer);
    }

    /** This thread alone; those of the virtual machine run where they may. */
    static void pin(String cpu) throws Exception {
        String thread = Files.readSymbolicLink(Path.of("/proc/thread-self")).getFileName().toString();
        new ProcessBuilder("taskset", "-pc", cpu, thread).start().waitFor();
    }

    public static void main(String[] args) throws Exception {
        boolean isPing = args[0].equals("ping");
        int trips = Integer.parseInt(args[3]), events = Integer.parseInt(args[4]);
        MediaDriver.Context driver = new MediaDriver.Context().aeronDirectoryName(args[1]).threadingMode(ThreadingMode.SHARED)
            .sharedIdleStrategy(new BackoffIdleStrategy(100, 10, 1_000, 100_000)).dirDeleteOnStart(true).dirDeleteOnShutdown(true);
        try (MediaDriver launched = isPing ? MediaDriver.launch(driver) : null;
             io.aeron.Aeron client = io.aeron.Aeron.connect(new Context().aeronDirectoryName(args[1]))) {
            Aeron side = new Aeron(client, isPing ? 1 : 2, isPing ? 2 : 1);
            pin(args[2]);
            for (int len : new int[] {64, 512})
                if (isPing)
                    side.ping(len, trips, events);
                else
                    side.pong(len, trips, events);
            while (isPing && side.publication.isConnected())
                Thread.sleep(1); // the driver stays until pong has taken all
        }
    }
}
