// JDBC, by properties and by URL.

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Objects;
import java.util.Properties;
import org.postgresql.PGConnection;

public class UseJdbc {
    static String env(String name) {
        return System.getenv("MULTIDB_" + name);
    }

    static String encoded(String name) {
        return URLEncoder.encode(env(name), StandardCharsets.UTF_8);
    }

    static void expect(Object got, Object wanted) {
        if (!Objects.equals(got, wanted)) {
            throw new AssertionError("got " + got + " instead of " + wanted);
        }
    }

    static Object one(Connection session, String sql) throws SQLException {
        try (Statement statement = session.createStatement(); ResultSet rows = statement.executeQuery(sql)) {
            rows.next();
            return rows.getObject(1);
        }
    }

    public static void main(String[] arguments) throws Exception {
        Class.forName("org.postgresql.Driver");
        String server = "jdbc:postgresql://localhost:" + env("PORT") + "/app";
        String tls = "?sslmode=verify-full&sslrootcert=" + env("CA");
        String url = server + tls + "&user=" + encoded("USER") + "&password=" + encoded("PASSWORD");
        try (Connection byUrl = DriverManager.getConnection(url)) {
            expect(one(byUrl, "select 1"), 1);
        }
        Properties properties = new Properties();
        properties.setProperty("user", env("USER"));
        properties.setProperty("password", env("PASSWORD"));
        try (Connection session = DriverManager.getConnection(server + tls, properties)) {
            prepared(session);
            copy(session);
            listen(session);
            cancel(session);
            large(session);
        }
    }

    /** The driver names a statement on the server from its fifth execution on. */
    static void prepared(Connection session) throws SQLException {
        try (var statement = session.prepareStatement("select ? + 1")) {
            for (int number = 0; number < 10; number++) {
                statement.setInt(1, number);
                try (ResultSet rows = statement.executeQuery()) {
                    rows.next();
                    expect(rows.getInt(1), number + 1);
                }
            }
        }
    }

    static void copy(Connection session) throws Exception {
        try (Statement statement = session.createStatement()) {
            statement.execute("create temp table copied (n int)");
        }
        StringBuilder rows = new StringBuilder();
        for (int number = 0; number < 10_000; number++) {
            rows.append(number).append('\n');
        }
        byte[] text = rows.toString().getBytes(StandardCharsets.UTF_8);
        var api = session.unwrap(PGConnection.class).getCopyAPI();
        expect(api.copyIn("copy copied from stdin", new ByteArrayInputStream(text)), 10_000L);
        var back = new ByteArrayOutputStream();
        api.copyOut("copy (select * from copied order by n) to stdout", back);
        expect(back.toString(StandardCharsets.UTF_8), rows.toString());
    }

    static void listen(Connection session) throws SQLException {
        try (Statement statement = session.createStatement()) {
            statement.execute("listen changes");
            statement.execute("notify changes, 'hello'");
        }
        var heard = session.unwrap(PGConnection.class).getNotifications(30_000);
        expect(heard[0].getParameter(), "hello");
    }

    static void cancel(Connection session) throws Exception {
        try (Statement statement = session.createStatement()) {
            var canceller = new Thread(() -> {
                try {
                    Thread.sleep(500);
                    statement.cancel();
                } catch (InterruptedException | SQLException error) {
                    error.printStackTrace();
                }
            });
            canceller.start();
            try {
                statement.execute("select pg_sleep(60)");
                throw new AssertionError("the query was not cancelled");
            } catch (SQLException error) {
                expect(error.getSQLState(), "57014");
            }
            canceller.join();
        }
        expect(one(session, "select 2"), 2);
    }

    /** In pieces, by a portal. */
    static void large(Connection session) throws SQLException {
        session.setAutoCommit(false);
        try (Statement statement = session.createStatement()) {
            statement.setFetchSize(1_000);
            String sql = "select repeat('x', 100) from generate_series(1, 100000)";
            int count = 0;
            try (ResultSet rows = statement.executeQuery(sql)) {
                while (rows.next()) {
                    expect(rows.getString(1).length(), 100);
                    count++;
                }
            }
            expect(count, 100_000);
        }
        session.commit();
    }
}
